"""Grids of results: a row for each pair (and each of `rows`), a column for each of `columns` (Figures 1, 10 to 14, 17 to 19).

`rows` and `columns` are lists of sweeps. A sweep maps settings to values, and stands for every combination of them, the last one
fastest: {run: [a, b], gs: [1, 3]} are four columns. What no sweep names is as the figure's `settings` say.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.config import CONF
from src.figures import Picture
from src.figures.drawings import Drawing, data_hashes, drawings, reference_tokens
from src.files import UserError
from src.grids import rows_image
from src.methods import Batch, Cell, Words, colorize

SAMPLED = ("gs", "sgs", "control_scale", "noise_level")  # settings that `sample` knows by these names
# Those that it does not: which weights, whether there is a reference, how many of a pair's edits, and how far the last of them.
# Or a row of conf/baseline in place of a run, perhaps with another guidance scale; the words of its edits are its prompt.
SETTINGS = ("run", "epoch", "reference", "edits", "target_scale", "baseline", "baseline_gs", *SAMPLED)
ORDINALS = ("no edit", "first edit", "second edit", "third edit", "fourth edit")

Settings = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Examples:
    """What a column colours: sketches uint8 [N, H, W], references uint8 [N, H, W, 3], their tokens [N, 1 + n, D], the seeds of
    their noise, the words of the edits of each, and what is known in words of the sketches' drawings and of the references.
    """

    sketches: np.ndarray
    references: np.ndarray
    tokens: Any
    seeds: Sequence[int]
    edits: Sequence[Sequence[Mapping[str, Any]]]
    words: Sequence[Words]
    reference_words: Sequence[Words]

    def __len__(self) -> int:
        return len(self.seeds)


def grid(values: Mapping[str, Any]) -> Picture:
    """Samples and arranges the figure of `conf/figures.yaml`'s values."""
    from src.backbone.parts import load_backbone
    from src.sampling.batch import devices

    figure = values["figure"]
    rows, columns = expand(figure.get("rows", [{}])), expand(figure["columns"])
    cells = [[{**figure["settings"], **row, **column} for column in columns] for row in rows]
    check(list(itertools.chain(*cells)), values)
    backbone = load_backbone(values["backbone"]).to(devices()[0])
    colours = _Colours(values, backbone)
    root = Path(values["data"]["root"])
    examples = examples_of(figure["pairs"], drawings(root, _keys(figure["pairs"])), backbone, values["seed"])
    results = [[colours.of(examples, cell) for cell in line] for line in cells]  # => [rows][columns] of uint8 [N, H, W, 3]

    shown = ["sketch", *(["reference"] if all(cell["reference"] for line in cells for cell in line) else [])]
    inputs = [examples.sketches, examples.references][: len(shown)]
    maps, over = _maps(figure.get("maps", 0), examples, colours)
    sheet = [_first_of(column, len(rows)) for column in (*inputs, *maps)]
    sheet += [_interleaved([line[place] for line in results]) for place in range(len(columns))]
    titles = [*shown, *over, *(title(column, colours.name) for column in columns)]
    labels = [title(row, colours.name) for row in rows] if rows != [{}] else []
    if any(examples.edits):
        words = [", then ".join(_in_words(edit) for edit in edits) for edits in examples.edits]
        labels = [f"{text}. {label}".removesuffix(". ") for text in words for label in (labels or [""])]
    else:
        labels = labels * len(examples)
    return Picture(
        rows_image(sheet, titles, values["zoom"], labels),
        {"backbone": backbone.fingerprint, "runs": colours.made_from, "data": data_hashes(root)},
    )


def expand(sweeps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every combination of the values of each sweep, one sweep after the other. A value that is no list is a list of one."""
    lists = [{key: value if isinstance(value, list) else [value] for key, value in sweep.items()} for sweep in sweeps]
    return [dict(zip(sweep, chosen, strict=True)) for sweep in lists for chosen in itertools.product(*sweep.values())]


def check(cells: Sequence[Settings], values: Mapping[str, Any]) -> None:
    """UserError for a setting that there is not, and for a run that is not there, before anything is sampled."""
    figure = values["figure"]
    epochs = sorted({cell["epoch"] for cell in cells if cell["epoch"]})
    for cell in cells:
        if unknown := [key for key in cell if key not in SETTINGS]:
            raise UserError(f"Figure {figure['number']} has a setting {unknown[0]!r}; there are {', '.join(SETTINGS)}.")
        if cell["baseline"]:
            if not (CONF / "baseline" / f"{cell['baseline']}.yaml").exists():
                raise UserError(
                    f"Figure {figure['number']} shows the baseline {cell['baseline']}, which conf/baseline does not have."
                )
        elif cell["run"] is None:
            raise UserError(f"Figure {figure['number']} has a cell of no run and no baseline: give one of them.")
        elif not (folder(cell) / "model.safetensors").exists():
            raise UserError(f"Figure {figure['number']} shows {folder(cell)}, which is not there: {_making(cell, epochs, values)}.")
    for key in ("edits", "maps"):
        most = max([figure.get(key, 0), *(cell.get(key, 0) for cell in cells)])
        if short := [pair for pair in figure["pairs"] if len(pair.get("edits", [])) < most]:
            raise UserError(
                f"Figure {figure['number']} shows {most} edits, and its pair of {short[0]['sketch']} has fewer: give more."
            )


def _making(cell: Settings, epochs: Sequence[int], values: Mapping[str, Any]) -> str:
    """How to come by the weights of a cell."""
    run = Path(cell["run"])
    if not run.is_relative_to(values["runs"]):
        return "`dvc repro pipelines/backbone/dvc.yaml` makes the shipped colorizers"
    kept = f" and keep_epochs=[{','.join(map(str, epochs))}] in its sweep" if cell["epoch"] else ""
    return f"`dvc repro train@{run.parent.name}` makes it, with scale: {values['scale']['name']}{kept} in params.yaml"


def folder(cell: Settings) -> Path:
    """The folder of the weights of a cell: its run's, or those that the run kept of an epoch."""
    return Path(cell["run"]) / f"epoch-{cell['epoch']}" if cell["epoch"] else Path(cell["run"])


def title(settings: Settings, name_of: Any) -> str:
    """The words above a column, or before a row, for the settings that it has of its own. name_of: a run's folder to its name."""
    words = {
        "run": lambda: name_of(settings),
        "baseline": lambda: name_of(settings) if settings["baseline"] else "",
        "baseline_gs": lambda: f"GS-{settings['baseline_gs']:g}" if settings["baseline_gs"] else "",
        "epoch": lambda: f"epoch {settings['epoch']}",
        "gs": lambda: f"GS-{settings['gs']:g}",
        "sgs": lambda: f"SGS-{settings['sgs']:g}",
        "reference": lambda: "with reference" if settings["reference"] else "no reference",
        "edits": lambda: ORDINALS[settings["edits"]],
    }
    said = [words[key]() if key in words else f"{key.replace('_', ' ')} {settings[key]:g}" for key in settings]
    return ", ".join(text for text in said if text)


def examples_of(pairs: Sequence[Mapping[str, Any]], by_key: Mapping[str, Drawing], backbone: Any, seed: int) -> Examples:
    """The pairs {sketch, reference, edits} of a figure. Their noise is that of `seed` and their place in the list."""
    import torch

    references = [by_key[pair["reference"]].color for pair in pairs]
    return Examples(
        np.stack([by_key[pair["sketch"]].sketch for pair in pairs]),
        np.stack(references),
        torch.cat([reference_tokens(backbone, image) for image in references]),
        [seed * 1_000_003 + place for place in range(len(pairs))],
        [pair.get("edits", []) for pair in pairs],
        [by_key[pair["sketch"]].words for pair in pairs],
        [by_key[pair["reference"]].words for pair in pairs],
    )


class _Colours:
    """Results of cells. The weights of one cell stay loaded for the next; `made_from` remembers all that there were."""

    def __init__(self, values: Mapping[str, Any], backbone: Any) -> None:
        self.values, self.backbone = values, backbone
        self.made_from: dict[str, dict[str, Any]] = {}
        self._loaded = functools.lru_cache(maxsize=1)(self._load)

    def _load(self, where: Path) -> Any:
        from src.files import file_sha256
        from src.model.colorizer import load_colorizer
        from src.sampling.batch import devices, replica

        colorizer, card = load_colorizer(where / "model", self.backbone.fingerprint)
        sha256 = file_sha256(where / "model.safetensors")
        name = card.get("name", where.name)
        self.made_from[where.as_posix()] = {"name": name, "sha256": sha256, "mlflow_run": card.get("mlflow_run")}
        return replica(colorizer, devices()[0], self.values["precision"])

    def name(self, settings: Settings) -> str:
        """The name of a baseline or of a run, without that of the epoch, which has its own words."""
        if settings.get("baseline"):
            name = self.made_from[f"conf/baseline/{settings['baseline']}"]["name"]
            return name.partition(", GS-")[0] if settings.get("baseline_gs") else name
        run = Path(settings["run"])
        known = next(made["name"] for place, made in self.made_from.items() if Path(place).is_relative_to(run))
        return known.partition(", epoch")[0]

    def edited(self, examples: Examples, cell: Settings, kind: str) -> Any:
        """The tokens [N, 1 + n, D] after the first `edits` edits of each example, the last one at `target_scale` if given."""
        import torch

        from src.manipulation import edit_tokens, encode_edits

        defaults = self.values["backbone"].get("edit", {})
        tokens = []
        for own, words in zip(examples.tokens, examples.edits, strict=True):
            specs = [{**defaults, **edit} for edit in words[: cell["edits"]]]
            if specs and cell["target_scale"] is not None:
                specs[-1] = {**specs[-1], "target_scale": cell["target_scale"]}
            tokens.append(edit_tokens(own[None], encode_edits(specs, self.backbone.text), kind))
        return torch.cat(tokens)

    def of(self, examples: Examples, cell: Settings) -> np.ndarray:
        """Results uint8 [N, H, W, 3]."""
        if cell["baseline"]:
            return self._by_baseline(examples, cell)
        colorizer = self._loaded(folder(cell))
        tokens = self.edited(examples, cell, colorizer.kind)
        if not cell["reference"]:
            tokens = tokens * 0
        batch = Batch(examples.sketches, examples.seeds, tokens.cpu().numpy())
        options = {key: cell[key] for key in SAMPLED}
        try:
            return colorize(colorizer, self.backbone, batch, sampler=self.values["sampler"], **options)
        except ValueError as error:  # an option that this kind of model does not have
            raise UserError(f"{folder(cell)}: {error}") from error

    def _by_baseline(self, examples: Examples, cell: Settings) -> np.ndarray:
        from src.baselines.method import Baseline
        from src.config import compose
        from src.sampling.batch import devices

        own = [f"baseline={cell['baseline']}", f"baseline.control_scale={cell['control_scale']}"]
        own += [f"baseline.gs={cell['baseline_gs']}"] if cell["baseline_gs"] else []
        config = compose([*own, f"precision={self.values['precision']}"], "evaluate")
        for group in ("backbone", "weights", "sampler"):
            config[group] = self.values[group]
        method = Baseline(config).on(devices()[0])
        self.made_from[f"conf/baseline/{cell['baseline']}"] = {"name": method.name, **method.made_from}
        words = examples.words
        if cell["edits"]:
            told = [", ".join(edit["target"] for edit in edits[: cell["edits"]]) for edits in examples.edits]
            words = [Words(text, known.figure) for text, known in zip(told, words, strict=True)]
        batch = Batch(examples.sketches, examples.seeds, None, examples.references, words, examples.reference_words)
        return method(batch, Cell(None))


def _maps(count: int, examples: Examples, colours: _Colours) -> tuple[list[np.ndarray], list[str]]:
    """The correlation map and the zones (Eq. 9 and 10) of the first `count` edits, each on the tokens that it meets."""
    from src.manipulation import correlation_map, edit_local, encode_edits
    from src.manipulation.heatmaps import correlation_picture, zone_picture

    defaults = colours.values["backbone"].get("edit", {})
    columns: list[list[np.ndarray]] = [[] for _ in range(2 * count)]
    for reference, tokens, words in zip(examples.references, examples.tokens, examples.edits, strict=True):
        edits = encode_edits([{**defaults, **edit} for edit in words[:count]], colours.backbone.text)
        for place, edit in enumerate(edits):
            if edit.control is None or isinstance(edit.control, str):
                raise UserError(f"Edit {place + 1} has no map: give it a control that is a text.")
            m = correlation_map(edit_local(tokens[None, 1:], tokens[None, 0], edits[:place])[0], edit.control)
            columns[2 * place].append(correlation_picture(reference, m))
            columns[2 * place + 1].append(zone_picture(reference, m, edit.thresholds))
    titles = [f"{ORDINALS[place + 1]}: {what}" for place in range(count) for what in ("correlation", "zones")]
    return [np.stack(column) for column in columns], titles


def _keys(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [pair[name] for pair in pairs for name in ("sketch", "reference")]


def _in_words(edit: Mapping[str, Any]) -> str:
    return " to ".join(edit[name] for name in ("anchor", "target") if edit.get(name))


def _first_of(images: np.ndarray, rows: int) -> np.ndarray:
    """Each image [N, H, W(, 3)] once, with white below it for the other rows of its pair."""
    return _interleaved([images, *[np.full_like(images, 255)] * (rows - 1)])


def _interleaved(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays [N, ...], one a row of each pair, as [N * rows, ...]."""
    return np.stack(rows, 1).reshape(-1, *rows[0].shape[1:])
