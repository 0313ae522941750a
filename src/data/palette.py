"""OpenMoji's fixed palette, in families of one hue, and the seeded recolouring of a drawing by families."""

import random

# Each family lists its shades from light to dark. A recolouring maps a family to a family and keeps the place in it, so that a
# shadow stays a shadow. The skin tones of the palette are one family: their word is "beige".
FAMILIES: dict[str, tuple[str, ...]] = {
    "red": ("#ea5a47", "#d22f27", "#781e32"),
    "orange": ("#f4aa41", "#e27022"),
    "yellow": ("#fcea2b", "#f1b31c"),
    "green": ("#b1cc33", "#5c9e31", "#186648"),
    "blue": ("#92d3f5", "#61b2e4", "#1e50a0"),
    "purple": ("#b399c8", "#8967aa"),
    "pink": ("#ffa7c0", "#e67a94"),
    "brown": ("#a57939", "#6a462f", "#352318"),
    "beige": ("#fadcbc", "#debb90", "#c19a65"),
    "grey": ("#d0cfce", "#9b9b9a"),
    "black": ("#3f3f3f",),
    "white": ("#ffffff",),
}
SHADE = {shade: (family, i) for family, shades in FAMILIES.items() for i, shade in enumerate(shades)}
# Ink and paper: these stay what they are in every recolouring.
FIXED = {"#000000", "#ffffff"}


def normal_form(colour: str) -> str:
    """`#FFF` and `#ffffff` are one colour: six lower-case digits."""
    colour = colour.strip().lower()
    if len(colour) == 4 and colour[0] == "#":
        colour = "#" + "".join(2 * digit for digit in colour[1:])
    return colour


def word(colour: str) -> str:
    """The name of a colour's family; of the nearest palette colour's where it is none of the palette's."""
    colour = normal_form(colour)
    if colour == "#000000":
        return "black"
    if colour in SHADE:
        return SHADE[colour][0]
    rgb = to_rgb(colour)
    nearest = min(SHADE, key=lambda shade: sum((a - b) ** 2 for a, b in zip(to_rgb(shade), rgb, strict=True)))
    return SHADE[nearest][0]


def to_rgb(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as three values in 0..255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def recolouring(fills: set[tuple[str, str]], rng: random.Random) -> dict[tuple[str, str], str]:
    """A map from (group, fill) to a new fill. Families of one group go to different families, never to themselves."""
    mapping: dict[tuple[str, str], str] = {}
    for group in sorted({group for group, _ in fills}):
        colours = sorted({fill for g, fill in fills if g == group and fill in SHADE and fill not in FIXED})
        sources = sorted({SHADE[colour][0] for colour in colours})
        targets = dict(zip(sources, _derangement(sources, rng), strict=True))
        for colour in colours:
            family, shade = SHADE[colour]
            shades = FAMILIES[targets[family]]
            mapping[group, colour] = shades[min(shade, len(shades) - 1)]
    return mapping


def _derangement(sources: list[str], rng: random.Random) -> list[str]:
    while True:
        targets = rng.sample(sorted(FAMILIES), len(sources))
        if all(source != target for source, target in zip(sources, targets, strict=True)):
            return targets
