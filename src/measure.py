"""From pictures to numbers: everything that is measured of results on held-out pairs, by one function, whoever made them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from src.held_out import Pairs
from src.methods import OUTSIDE
from src.metrics.features import Features

if TYPE_CHECKING:
    from src.backbone.parts import Backbone

NEIGHBOURS = 5  # the least sample that density and coverage can be had of
MOST_PSNR = 100.0  # dB: equal pictures have an infinite one, which has no mean

Numbers = dict[str, dict[str, Any]]  # measure -> {"value", "low", "high"}; no interval where there is none
Samples = dict[str, np.ndarray]  # measure -> one value a picture, float64 [N], nan where it is undefined


class Measure(NamedTuple):
    """How a measure is shown. better: `less`, `more` or, where neither is, `` ; scale: what the number is multiplied with."""

    title: str
    better: str
    decimals: int = 3
    scale: float = 1.0
    unit: str = ""


PERCENT: dict[str, Any] = {"decimals": 1, "scale": 100, "unit": " %"}
# In the order of tables; docs/metrics.md defines each.
MEASURES = {
    "FID": Measure("FID", "less", 2),
    "FD-EffNet": Measure("FD-EffNet", "less", 2),
    "FD-CLIP": Measure("FD-CLIP", "less", 2),
    "KID": Measure("KID x 1000", "less", 2, 1e3),
    "KD-EffNet": Measure("Kernel distance x 1000, EfficientNet", "less", 2, 1e3),
    "KD-CLIP": Measure("Kernel distance x 1000, CLIP", "less", 2, 1e3),
    "precision": Measure("Precision, EfficientNet", "more"),
    "recall": Measure("Recall, EfficientNet", "more"),
    "density": Measure("Density, EfficientNet", "more"),
    "coverage": Measure("Coverage, EfficientNet", "more"),
    "separation": Measure("Separation (structure x colour)", "more"),
    "structure": Measure("Structure: nearness to the sketch", "more"),
    "colour": Measure("Colour: nearness to the reference's palette", "more"),
    "CLIP nearness": Measure("Colour (CLIP)", ""),
    "palette closer": Measure("Palette nearer to the own reference", "more", **PERCENT),
    "spurious": Measure("Spurious lines", "less", **PERCENT),
    "vanished": Measure("Vanished lines", "less", **PERCENT),
    "leakage": Measure("Region leakage", "less"),
    "entanglement": Measure("Entanglement", "less"),
    "entanglement permuted": Measure("Entanglement, tokens permuted", "less"),
    "PSNR": Measure("PSNR", "more", 2, unit=" dB"),
    "MS-SSIM": Measure("MS-SSIM", "more"),
    "PD-EffNet": Measure("Perceptual distance, EfficientNet", "less"),
}


def shown(measure: str, cell: Mapping[str, Any]) -> str:
    """A number with its interval, as tables have it."""
    how = MEASURES[measure]

    def text(value: float) -> str:
        return f"{value * how.scale:.{how.decimals}f}"

    interval = f" [{text(cell['low'])}, {text(cell['high'])}]" if "low" in cell else ""
    return text(cell["value"]) + how.unit + interval


def cell_title(name: str) -> str:
    """`GS-2`, or `GS-2, SGS-3`; `result` of a method that is not ours."""
    gs, _, sgs = name.partition("/")
    return "result" if name == OUTSIDE else f"GS-{gs}, SGS-{sgs}" if sgs else f"GS-{gs}"


def feature_networks(backbone: "Backbone") -> dict[str, Features]:
    """The backbone's CLIP, and the networks whose weights are here, on the backbone's device."""
    from src.metrics.features import available, clip_features, extractor

    device = next(backbone.clip.parameters()).device.type
    return {"clip": clip_features(backbone)} | {name: extractor(name, device=device) for name in available()}


def real_features(split: Path, network: Features, size: int | None = None) -> Path:
    """The file, made if it is not there, of the features [M, D] of all drawings of a split, cut to a square of `size` if given.

    It lies beside the split, under the hash of what it depends on.
    """
    from src.data.columns import contents
    from src.data.images import array_bytes
    from src.data.loader import Table
    from src.files import config_hash, write_atomically

    table = Table(split, ["color"], [(size, size)] if size else [])
    identity = {"data": contents(table.columns["color"].index), "size": size, "weights": network.weights}
    path = split.parent / "features" / f"{split.name}-{network.name}-{config_hash(identity)[:12]}.npy"
    if not path.exists():
        features = network.call(np.stack([table[row]["color"].numpy() for row in range(len(table))]))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda f: f.write(array_bytes(features)))
    return path


class Measurer:
    """What all results on the same pairs are measured with; made once, for it loads networks and takes sketches apart."""

    def __init__(
        self, pairs: Pairs, split: Path, backbone: "Backbone", lines: Mapping[str, float], size: int | None = None
    ) -> None:
        """split: the drawings whose distribution results are held against, cut to a square of `size`, if given; lines: options of
        `xdog`, those that the sketches were made with.
        """
        from src.data.images import array_from
        from src.metrics.separation import palettes, rivals, structure_of

        self.pairs, self.lines = pairs, dict(lines)
        self.networks = feature_networks(backbone)
        self.device = next(backbone.clip.parameters()).device.type
        self.real = {name: array_from(real_features(split, network, size).read_bytes()) for name, network in self.networks.items()}
        self.structures = [structure_of(*both) for both in zip(pairs.sketches, pairs.truths, strict=True)]
        self.rivals = rivals(pairs.drawings)
        self.palettes = palettes(pairs.references, options=self.lines)
        self.wanted = self.networks["clip"].call(pairs.references)

    def numbers(self, results: np.ndarray) -> tuple[Numbers, Samples]:
        """Of results uint8 [N, H, W, 3] of the pairs: numbers with 95 % intervals over drawings, and values of each picture."""
        from src.metrics.intervals import mean_interval
        from src.metrics.separation import feature_transfer, separation

        features = {name: network.call(results) for name, network in self.networks.items()}
        numbers: Numbers = {}
        for name, network in self.networks.items():
            numbers |= self._distances(network.distance_name, features[name], self.real[name])
        if "efficientnet" in features:
            numbers |= _spread(features["efficientnet"], self.real["efficientnet"])
        samples: Samples = separation(results, self.structures, self.palettes, self.rivals, options=self.lines)
        samples["CLIP nearness"] = feature_transfer(features["clip"], self.wanted, self.rivals)
        if self.pairs.own:
            samples |= _alike(results, self.pairs.truths, self.device)
        for name, values in samples.items():
            numbers[name] = _cell(*mean_interval(values, self.pairs.drawings))
        numbers["palette closer"] = self._closer(results)
        return {name: cell for name, cell in numbers.items() if "value" in cell}, samples

    def _distances(self, name: str, made: np.ndarray, real: np.ndarray) -> Numbers:
        from src.metrics import frechet, kernel

        both = {name: frechet, "KID" if name == "FID" else name.replace("FD", "KD"): kernel}
        values = {name: frechet.distance_of_features(made, real)}
        numbers: Numbers = {}
        for measure, module in both.items():
            value = values[measure] if measure in values else kernel.kernel_distance(made, real)
            numbers[measure] = _cell(value, *module.bootstrap_interval(made, real, self.pairs.drawings))
        return numbers

    def _closer(self, results: np.ndarray) -> dict[str, float]:
        from src.metrics.palette import closer_share

        return _cell(*closer_share(list(results), list(self.pairs.references)))


def entanglement_numbers(results: np.ndarray, drawings: list[str]) -> tuple[dict[str, float], np.ndarray]:
    """The number and the values [N] of `src.metrics.entanglement` for results [R, N, H, W, 3] of N different drawings."""
    from src.metrics.entanglement import entanglement
    from src.metrics.intervals import mean_interval

    values = entanglement(results)
    return _cell(*mean_interval(values, drawings)), values


def _spread(made: np.ndarray, real: np.ndarray) -> Numbers:
    from src.metrics.coverage import density_coverage, precision_recall

    if min(len(made), len(real)) <= NEIGHBOURS:
        return {}
    values = (*precision_recall(made, real), *density_coverage(made, real))
    return {name: {"value": value} for name, value in zip(("precision", "recall", "density", "coverage"), values, strict=True)}


def _alike(results: np.ndarray, truths: np.ndarray, device: str) -> Samples:
    from src.metrics.features import FeaturesUnavailable
    from src.metrics.similarity import ms_ssim, perceptual, psnr

    values = {"PSNR": np.minimum(psnr(results, truths), MOST_PSNR), "MS-SSIM": ms_ssim(results, truths)}
    try:
        return {**values, "PD-EffNet": perceptual(device=device)(results, truths)}
    except FeaturesUnavailable:
        return values


def _cell(value: float, low: float, high: float) -> dict[str, float]:
    """A number with what is known of its interval."""
    return {name: float(x) for name, x in (("value", value), ("low", low), ("high", high)) if np.isfinite(x)}
