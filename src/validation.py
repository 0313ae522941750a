"""Do the measures of the distribution problem say what they should? On made-up results whose answer is known.

All start from held-out drawings of OpenMoji, painted flat by the artist's own regions. Each of these is the best result that
there can be for its sketch and a reference which is another drawing in the same colours. Families of results spoil it, each in
one way and at growing strength.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Colours = NDArray[np.float64]  # [n, 3], 0 to 255
Features = Callable[[Images], NDArray[np.floating]]  # uint8 [B, H, W, 3] -> [B, D]

LEAST_SHARE = 0.05  # of the canvas beside the lines that a drawing's colours cover
PAINTED_PIXEL = 250  # lighter pixels of the line drawing are no line
XDOG_EVERY = 4  # one sketch in so many is XDoG's, the others are the artist's own, as in conf/data/openmoji.yaml
GREY = np.full((1, 3), 128.0)
TOLERANCES, GAPS, CUTS = (1.0, 1.5, 2.0, 3.0), (0.0, 1.0, 2.0, 3.0, 4.0), (0, 3, 5)
STAYS = 0.05  # a measure stays where it is never farther than this from its value without spoiling

BEST = "best"
# What each family does to the best results, and its strengths.
FAMILIES: dict[str, tuple[str, tuple[float, ...]]] = {
    "lines": ("the reference's lines drawn in, at this opacity", (0.25, 0.5, 0.75, 1)),
    "shapes": ("the reference's coloured shapes pasted in, at this opacity", (0.25, 0.5, 0.75, 1)),
    "bleeding": ("the colours blurred across the lines, by this standard deviation in pixels", (1, 2, 4, 8)),
    "wrong colours": ("the colours of an unrelated drawing in the right regions, by this share", (0.25, 0.5, 0.75, 1)),
    "grey": ("one grey in all regions, by this share", (0.25, 0.5, 0.75, 1)),
    "reference": ("the reference itself in place of the result, at this opacity", (0.25, 0.5, 0.75, 1)),
}
RISES, FALLS, AS_IS, MIXED = "rises", "falls", "stays", "mixed"
SAME_STRUCTURE = {"wrong colours": AS_IS, "grey": AS_IS}
# What a measure should do as a family grows stronger. Where a family is not named, nothing is asked.
SHOULD: dict[str, dict[str, str]] = {
    "spurious": {"lines": RISES, "bleeding": AS_IS, **SAME_STRUCTURE, "reference": RISES},
    "vanished": {"lines": AS_IS, "shapes": RISES, "bleeding": AS_IS, **SAME_STRUCTURE, "reference": RISES},
    "leakage": {"lines": RISES, "shapes": RISES, "bleeding": RISES, **SAME_STRUCTURE, "reference": RISES},
    "leakage (artist's regions)": {"lines": RISES, "shapes": RISES, "bleeding": RISES, **SAME_STRUCTURE, "reference": RISES},
    "structure": {"lines": FALLS, "shapes": FALLS, "bleeding": FALLS, **SAME_STRUCTURE, "reference": FALLS},
    "colour": {"bleeding": FALLS, "wrong colours": FALLS, "grey": FALLS},
    "colour (CLIP)": {"bleeding": FALLS, "wrong colours": FALLS, "grey": FALLS},
    "separation": dict.fromkeys(FAMILIES, FALLS),
    "entanglement": {"lines": RISES, "shapes": RISES, "bleeding": AS_IS, **SAME_STRUCTURE, "reference": RISES},
}


@dataclass(frozen=True, eq=False)
class Drawing:
    """A drawing: color uint8 [H, W, 3]; line (the artist's) and sketch uint8 [H, W]; regions uint8 [H, W], 0 = paper; areas: bool
    [H, W] each, the coloured ones of the regions, from the largest on; colours: theirs."""

    color: Images
    line: Images
    sketch: Images
    regions: Images
    areas: tuple[NDArray[np.bool_], ...]
    colours: Colours


def held_out(count: int, size: int, seed: int, val_share: float) -> list[Drawing]:
    """The first `count` held-out drawings, recoloured, whose colours cover LEAST_SHARE of the canvas beside the lines."""
    from src.data import openmoji
    from src.data.lines import xdog

    known = {drawing.identity: drawing for drawing in openmoji.drawings()}
    chosen: list[Drawing] = []
    for key in openmoji.color_keys("val", 1, val_share):
        made = openmoji.render(known[key.rpartition("_")[0]], 1, size, seed)
        beside = made.line > PAINTED_PIXEL
        coloured = [i for i, part in enumerate(made.parts, 1) if part["color"] not in {"white", "black"}]
        areas = [made.regions == i for i in coloured if ((made.regions == i) & beside).any()]
        if sum((area & beside).mean() for area in areas) < LEAST_SHARE:
            continue
        areas.sort(key=lambda area: -area.sum())
        colours = np.array([np.median(made.color[area & beside], axis=0) for area in areas])
        sketch = xdog(made.color) if len(chosen) % XDOG_EVERY == 0 else made.line
        chosen.append(Drawing(made.color, made.line, sketch, made.regions, tuple(areas), colours))
        if len(chosen) == count:
            break
    return chosen


def painted(shapes: Drawing, colours: Colours) -> NDArray[np.float64]:
    """A drawing's areas in colours, which start anew where there are too few, on white and without lines -> [H, W, 3]."""
    image = np.full(shapes.color.shape, 255.0)
    for number, area in enumerate(shapes.areas):
        image[area] = colours[number % len(colours)]
    return image


def inked(image: NDArray[np.floating], line: NDArray[Any]) -> Images:
    """A picture [H, W, 3] under a line drawing [H, W], 0 = line -> uint8."""
    return np.rint(image * (line / 255)[..., None]).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Task:
    """A sketch (of `own`) and a reference (which shows `other` in `colours`); wrong: the colours of an unrelated drawing."""

    own: Drawing
    other: Drawing
    colours: Colours
    wrong: Colours

    def reference(self) -> Images:
        return inked(painted(self.other, self.colours), self.other.line)


def tasks(drawings: Sequence[Drawing]) -> list[list[Task]]:
    """Two for the sketch of every drawing, [2][N]: a reference in its own colours, and another one in others'."""
    n = len(drawings)

    def after(by: int) -> list[Drawing]:
        return [drawings[(i + by) % n] for i in range(n)]

    turns = [(n // 7 + 1, 0, n // 3 + 1), (n // 5 + 2, n // 2, n // 4 + 1)]
    return [
        [Task(a, b, c.colours, d.colours) for a, b, c, d in zip(drawings, *map(after, by), strict=True)] for by in turns
    ]  # fmt: skip


def result(task: Task, family: str, strength: float) -> Images:
    """What a family makes of the best result of a task, uint8 [H, W, 3]; at strength 0 the best one. ValueError: no such family."""
    from scipy.ndimage import gaussian_filter

    def mixed(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
        return (1 - strength) * a + strength * b

    own, other, flat = task.own, task.other, painted(task.own, task.colours)
    best = inked(flat, own.line)
    if family == "lines":
        return inked(best.astype(np.float64), mixed(np.full_like(other.line, 255), other.line))
    if family == "bleeding":
        return inked(gaussian_filter(flat, (strength, strength, 0)), own.line)
    if family == "wrong colours":
        return inked(mixed(flat, painted(own, task.wrong)), own.line)
    if family == "grey":
        return inked(mixed(flat, painted(own, GREY)), own.line)
    if family in {"shapes", "reference"}:
        place = np.any(other.areas, axis=0) if family == "shapes" else np.ones(other.line.shape, bool)
        return np.where(place[..., None], np.rint(mixed(best, task.reference())).astype(np.uint8), best)
    raise ValueError(f"There is no family {family}. There are: {', '.join(FAMILIES)}.")


def cases(drawings: Sequence[Drawing], autoencoded: Callable[[Images], Images]) -> dict[tuple[str, float], Images]:
    """Results by family and strength, each uint8 [2, N, H, W, 3]: for both tasks of every drawing.

    Beside the families: the best results, these through the VAE (what no colorizer can surpass), the drawings themselves, and
    their line drawings (nothing is coloured).
    """
    both = tasks(drawings)

    def made(family: str, strength: float) -> Images:
        return np.array([[result(task, family, strength) for task in row] for row in both])

    best = made("lines", 0)
    lines = np.array([np.repeat(drawing.line[..., None], 3, -1) for drawing in drawings])
    return {
        (BEST, 0): best,
        ("best, through the VAE", 0): np.array([autoencoded(images) for images in best]),
        ("the drawing itself", 0): np.array(2 * [[drawing.color for drawing in drawings]]),
        ("nothing coloured", 0): np.array(2 * [lines]),
        **{(family, s): made(family, s) for family, (_, strengths) in FAMILIES.items() for s in strengths},
    }


def measure(
    drawings: Sequence[Drawing], made: dict[tuple[str, float], Images], features: Features, seed: int = 0
) -> dict[tuple[str, float], dict[str, NDArray[np.float64]]]:
    """All measures of all cases, one value a drawing: entanglement of both tasks together, the others of the first one."""
    from src.metrics.entanglement import entanglement
    from src.metrics.palette import lab
    from src.metrics.regions import artists_regions, countable, leakage
    from src.metrics.separation import feature_transfer, palettes, rivals, separation, structure_of

    others = rivals(range(len(drawings)), seed=seed)
    references = np.array([task.reference() for task in tasks(drawings)[0]])
    structures = [structure_of(drawing.sketch, drawing.color) for drawing in drawings]
    artists = [countable(artists_regions(drawing.regions, drawing.line)) for drawing in drawings]
    wanted, colours = features(references), palettes(references)

    def one(results: Images) -> dict[str, NDArray[np.float64]]:
        first = results[0]
        numbers = separation(first, structures, colours, others)
        pixels = [lab(image) for image in first]
        numbers["leakage (artist's regions)"] = np.array([leakage(p, r) for p, r in zip(pixels, artists, strict=True)])
        numbers["colour (CLIP)"] = feature_transfer(features(first), wanted, others)
        return numbers | {"entanglement": entanglement(results)}

    return {case: one(results) for case, results in made.items()}


def choices(drawings: Sequence[Drawing], seed: int = 0) -> dict[str, list[dict[str, float]]]:
    """What the measures' two distances in pixels decide, for JSON.

    tolerance: the fidelity (F) of the drawings themselves, of the best results with the reference's lines, and of references.
    gap: for sketches that are whole or have six cuts, of 3 or 5 px: the share of them that close two regions or more, and the
    leakage of the best results with a bleeding of 4 px.
    """
    from src.metrics.lines import sketch_fidelity
    from src.metrics.palette import lab
    from src.metrics.regions import closed_regions, countable, leakage, of_one_colour

    row = tasks(drawings)[0]
    sketches = [drawing.sketch for drawing in drawings]
    shown = {
        "drawing": [drawing.color for drawing in drawings],
        "lines 1": [result(task, "lines", 1) for task in row],
        "reference": [task.reference() for task in row],
    }
    truths = [lab(drawing.color) for drawing in drawings]
    bleeding = [lab(result(task, "bleeding", 4)) for task in row]
    tolerances = [
        {"pixels": pixels}
        | {name: float(np.nanmean(sketch_fidelity(made, sketches, pixels)["fidelity"])) for name, made in shown.items()}
        for pixels in TOLERANCES
    ]
    gaps = []
    for pixels in GAPS:
        gaps.append({"pixels": pixels})
        for width in CUTS:
            rng = np.random.default_rng(seed)
            regions = [
                countable(of_one_colour(closed_regions(cut(sketch, width, rng), pixels), truth))
                for sketch, truth in zip(sketches, truths, strict=True)
            ]
            leaks = np.array([leakage(image, one) for image, one in zip(bleeding, regions, strict=True)])
            gaps[-1] |= {f"closed, cuts {width}": float(np.mean(~np.isnan(leaks)))}
            gaps[-1] |= {f"leakage, cuts {width}": float(np.nanmean(leaks)) if not np.isnan(leaks).all() else float("nan")}
    return {"tolerance": tolerances, "gap": gaps}


def cut(sketch: Images, width: int, rng: np.random.Generator, number: int = 6) -> Images:
    """A sketch, uint8 [H, W], with some squares of `width` pixels on its lines erased."""
    from src.metrics.lines import LINE

    erased, (ys, xs) = sketch.copy(), np.nonzero(sketch < LINE)
    for place in rng.integers(len(ys), size=number):
        y, x = max(ys[place] - width // 2, 0), max(xs[place] - width // 2, 0)
        erased[y : y + width, x : x + width] = 255
    return erased


def behaviour(steps: Sequence[NDArray[np.float64]]) -> str:
    """What a measure does over the steps of a family, [N] each and paired, the best results first: rises, falls, stays or is mixed.

    It stays where no step's mean is STAYS from the first one's. It rises where the last is above the first and no step is below
    the one before, as far as the intervals (95 %) of their mean differences tell; it falls the other way round.
    """
    from src.metrics.intervals import mean_interval

    if all(abs(np.nanmean(step - steps[0])) < STAYS for step in steps[1:]):
        return AS_IS
    intervals = [mean_interval(after - before)[1:] for before, after in itertools.pairwise(steps)]
    low, high = mean_interval(steps[-1] - steps[0])[1:]
    if low > 0 and all(top >= 0 for _, top in intervals):
        return RISES
    return FALLS if high < 0 and all(bottom <= 0 for bottom, _ in intervals) else MIXED


def behaviours(numbers: dict[tuple[str, float], dict[str, NDArray[np.float64]]]) -> dict[str, dict[str, str]]:
    """What each measure does in each family."""
    return {
        name: {
            family: behaviour([numbers[BEST, 0][name], *(numbers[family, s][name] for s in strengths)])
            for family, (_, strengths) in FAMILIES.items()
        }
        for name in SHOULD
    }


def summary(
    numbers: dict[tuple[str, float], dict[str, NDArray[np.float64]]], chosen: dict[str, list[dict[str, float]]]
) -> dict[str, Any]:
    """Means with 95 % intervals by case and measure, what each measure does and should do, and `choices`, for JSON."""
    from src.metrics.intervals import mean_interval

    return {
        "drawings": len(next(iter(numbers[BEST, 0].values()))),
        "cases": [
            {"family": family, "strength": strength}
            | {name: dict(zip(("mean", "low", "high"), mean_interval(values[name]), strict=True)) for name in SHOULD}
            for (family, strength), values in numbers.items()
        ],
        "behaviour": behaviours(numbers),
        "should": SHOULD,
        "choices": chosen,
    }


def page(report: dict[str, Any]) -> str:
    """The tables of a summary as Markdown."""
    head = ["| results | strength | " + " | ".join(SHOULD) + " |", "| --- " * (len(SHOULD) + 2) + "|"]
    rows = [
        f"| {case['family']} | {case['strength'] or ''} | " + " | ".join(_cell(case[name]) for name in SHOULD) + " |"
        for case in report["cases"]
    ]
    verdicts = [f"| {family} | " + " | ".join(_verdict(report, name, family) for name in SHOULD) + " |" for family in FAMILIES]
    meaning = [f"- **{family}**: {what}." for family, (what, _) in FAMILIES.items()]
    return "\n".join([
        "# Measures of the distribution problem, validated",
        "",
        f"From {report['drawings']} held-out drawings, by `dvc repro validate_metrics`. What each measure is: docs/metrics.md.",
        "",
        "What each measure does as results are spoiled more. Bold: not what it should do. In brackets: nothing is asked of it.",
        "",
        "| family | " + " | ".join(SHOULD) + " |",
        "| --- " * (len(SHOULD) + 1) + "|",
        *verdicts,
        "",
        *meaning,
        "",
        "Means, with half the width of their 95 % intervals (bootstrap over drawings).",
        "",
        *head,
        *rows,
        "",
        "Fidelity (F) by the tolerance of lines in pixels.",
        "",
        *_table(report["choices"]["tolerance"]),
        "",
        "By the radius in pixels that closes gaps, for sketches with six cuts of so many pixels: the share that close two regions "
        "or more, and the leakage of results with a bleeding of 4 px.",
        "",
        *_table(report["choices"]["gap"]),
        "",
    ])  # fmt: skip


def _table(rows: Sequence[dict[str, float]]) -> list[str]:
    values = [[f"{row['pixels']:g}", *(f"{value:.3f}" for name, value in row.items() if name != "pixels")] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (list(rows[0]), ["---"] * len(rows[0]), *values)]


def _cell(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} ± {(value['high'] - value['low']) / 2:.3f}"


def _verdict(report: dict[str, Any], name: str, family: str) -> str:
    does, should = report["behaviour"][name][family], report["should"][name].get(family)
    if should is None:
        return f"({does})"
    return does if does == should else f"**{does}**"


def grid(drawings: Sequence[Drawing], made: dict[tuple[str, float], Images], rows: int = 6) -> Images:
    """Some drawings in all cases, with sketch and reference: uint8 [H', W', 3]."""
    from src.grids import rows_image

    references = np.array([task.reference() for task in tasks(drawings)[0]])
    sketches = np.array([drawing.sketch for drawing in drawings])
    titles = ["sketch", "reference", *(f"{family} {strength:g}" if strength else family for family, strength in made)]
    return rows_image([sketches[:rows], references[:rows], *(images[0, :rows] for images in made.values())], titles, zoom=1)
