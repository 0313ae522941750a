"""The distribution problem as one number: does a result take the colours of its reference and the shapes of its sketch?

Both halves are one idea. A result is held against its own sketch (reference) and against those of other pictures; `nearness` is
0 where it is no nearer to its own than to the others, and 1 where it equals its own. `separation` is the product of the two:

    structure  = nearness to the sketch,    by lines and regions
    colour     = nearness to the reference, by palette
    separation = structure * colour

A result that ignores its reference, and one that is its reference's shapes, have 0, each by another factor.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src.metrics.lines import TOLERANCE, Lines, line_error, lines_of_result, lines_of_sketch, spurious, vanished
from src.metrics.palette import lab, palette_signature
from src.metrics.regions import GAP, Regions, closed_regions, countable, leakage, of_one_colour

Array = NDArray[np.float64]
Images = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]  # N of them


def rivals(drawings: Sequence[Hashable], others: int = 16, seed: int = 0) -> NDArray[np.intp]:
    """For each of N pictures the places of up to `others` random pictures of other drawings, without repeats -> [N, K].

    drawings: what each picture's sketch shows. ValueError: a picture without another drawing beside it, or others < 1.
    """
    numbers = {drawing: i for i, drawing in enumerate(dict.fromkeys(drawings))}
    labels = np.array([numbers[drawing] for drawing in drawings], int)
    most = len(labels) - np.bincount(labels).max(initial=0)
    if most < 1 or others < 1:
        raise ValueError(f"Pictures of two or more drawings are needed, and others: got {len(numbers)} drawings, {others}.")
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(np.flatnonzero(labels != label), min(others, most), replace=False) for label in labels])


def nearness(distances: ArrayLike) -> Array:
    """1 - own / mean, of distances [N, 1 + K] to one's own (first) and to K others -> float64 [N], at most 1.

    The mean is over all 1 + K. If the own one is a random one of them, the expected value is therefore exactly 0, whatever the
    distances are; below 0 the own one is farther than others. nan: all distances are 0, or one is nan.
    """
    d = np.asarray(distances, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - d[:, 0] / d.mean(1)


def palettes(images: Images, tolerance: float = TOLERANCE, options: Mapping[str, float] | None = None) -> NDArray[np.float32]:
    """Palette signatures of N uint8 RGB images [H, W, 3] -> [N, S], without the pixels within the tolerance of their lines.

    The soft edges of ink would make every drawing a grey one. tolerance: pixels; options: of `xdog`.
    """
    return np.stack([_palette(image, lines_of_result(image, tolerance, options)) for image in images])


def _palette(image: NDArray[np.uint8], lines: Lines) -> NDArray[np.float32]:
    return palette_signature(image, ~lines.near)


def colour_transfer(made: NDArray[np.floating], wanted: NDArray[np.floating], rivals: NDArray[np.intp]) -> Array:
    """Nearness of results to their references by palette distance (Lab, sliced Wasserstein) -> float64 [N].

    made, wanted: the `palettes` of results and references, [N, S]; rivals: [N, K], whose references a result is held against.
    """
    return nearness([np.abs(made[i] - wanted[[i, *rivals[i]]]).mean(1) for i in range(len(made))])


def feature_transfer(results: ArrayLike, references: ArrayLike, rivals: NDArray[np.intp]) -> Array:
    """Nearness of results to their references by the cosine distance of features [N, D] (CLIP's image features) -> float64 [N].

    Such features know shapes too: a result that is its reference has 1. ValueError: shapes that do not fit.
    """
    made, wanted = (np.asarray(features, np.float64) for features in (results, references))
    if made.ndim != 2 or made.shape != wanted.shape:
        raise ValueError(f"Features need the shape [N, D], twice the same, got {list(made.shape)} and {list(wanted.shape)}.")
    made, wanted = (features / np.linalg.norm(features, axis=1, keepdims=True) for features in (made, wanted))
    return nearness([1 - wanted[[i, *rivals[i]]] @ made[i] for i in range(len(made))])


class Structure(NamedTuple):
    """What a sketch asks for: its lines, and the regions that they close."""

    lines: Lines
    regions: Regions


def structure_of(sketch: NDArray[np.uint8], truth: NDArray[np.uint8], tolerance: float = TOLERANCE, gap: float = GAP) -> Structure:
    """The structure of a sketch, uint8 [H, W], whose ground truth is uint8 RGB [H, W, 3]. tolerance, gap: pixels."""
    regions = of_one_colour(closed_regions(sketch, gap), lab(truth))
    return Structure(lines_of_sketch(sketch, tolerance), countable(regions))


def separation(
    results: Images,
    structures: Sequence[Structure],
    wanted: NDArray[np.floating],
    rivals: NDArray[np.intp],
    *,
    tolerance: float = TOLERANCE,
    options: Mapping[str, float] | None = None,
) -> dict[str, Array]:
    """What is measured of results in one pass, one value a picture: float64 [N] each, nan where it is undefined.

    results: N uint8 RGB images [H, W, 3]; structures: of their N sketches; wanted: the `palettes` [N, S] of their references;
    rivals: [N, K], see `rivals`; tolerance: pixels; options: of `xdog`, those that the sketches were made with. ->
    spurious, vanished: see `src.metrics.lines`; leakage: see `src.metrics.regions`; structure: nearness to the sketch, by the
    mean of line error and leakage (line error alone where the sketch closes fewer than two regions); colour; separation.
    """
    if not len(results) == len(structures) == len(wanted) == len(rivals):
        raise ValueError(f"Triples are needed: {len(results)} results, {len(structures)} sketches, {len(wanted)} references.")
    lines = [lines_of_result(result, tolerance, options) for result in results]
    leaks, errors = [], []
    for result, drawn, i, others in zip(results, lines, range(len(results)), rivals, strict=True):
        pixels = lab(result)
        asked = [structures[j] for j in (i, *others)]
        leaked = np.array([leakage(pixels, one.regions) for one in asked])
        wrong = np.array([line_error(drawn, one.lines) for one in asked])
        leaks.append(leaked[0])
        errors.append(np.where(np.isnan(leaked), wrong, (wrong + leaked) / 2))
    made = np.stack([_palette(result, drawn) for result, drawn in zip(results, lines, strict=True)])
    structure, colour = nearness(errors), colour_transfer(made, wanted, rivals)
    return {
        "spurious": np.array([spurious(a, b.lines) for a, b in zip(lines, structures, strict=True)]),
        "vanished": np.array([vanished(a, b.lines) for a, b in zip(lines, structures, strict=True)]),
        "leakage": np.array(leaks),
        "structure": structure,
        "colour": colour,
        "separation": structure * colour,
    }
