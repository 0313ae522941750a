"""How colorizers answer text edits on held-out drawings: `python -m src.edits [drawings=100 each=5]`.

Every drawing is its own reference, so that its regions are known in the result: an edit asks for one of them in another colour.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from omegaconf import DictConfig

from src.config import CONF, plain
from src.entry import reported
from src.files import UserError

if TYPE_CHECKING:
    from torch import Tensor

PAPER_AND_INK = ("white", "black")
PAINTED_PIXEL = 250  # lighter pixels of the line drawing are no line
REPAINTED = "repainted"
SETTINGS = ("drawings", "colours", "each", "least", "target_scales", "sequences", "gs", "seed", "sampler")


@dataclass(frozen=True, eq=False)
class Drawing:
    """A held-out drawing with its regions.

    sketch: uint8 [H, W]; reference: uint8 [H, W, 3]; regions: uint8 [H, W], 0 = none; ink: bool [H, W], the lines;
    parts: colour word and noun ("", hair, skin, clothes) of each region; large: the regions that are large enough to edit.
    """

    key: str
    seed: int
    sketch: np.ndarray
    reference: np.ndarray
    regions: np.ndarray
    ink: np.ndarray
    parts: tuple[tuple[str, str], ...]
    large: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Request:
    """A colour asked for in a region of a drawing."""

    drawing: Drawing
    region: int
    colour: str

    @property
    def words(self) -> tuple[str, str]:
        """What a caption calls the region, now and in the colour asked for."""
        own, noun = self.drawing.parts[self.region - 1]
        return f"{own} {noun}".strip(), f"{self.colour} {noun}".strip()

    def spec(self, target_scale: float, options: dict[str, Any]) -> dict[str, Any]:
        """The edit in words: the region's present phrase is anchor and control."""
        own, new = self.words
        return {"target": new, "anchor": own, "control": own, "target_scale": target_scale, **options}

    def repainted(self) -> np.ndarray:
        """The reference with the region in the middle shade of the colour asked for, uint8 [H, W, 3]: what an edit stands for."""
        from src.data.palette import FAMILIES, to_rgb

        shades = FAMILIES[self.colour]
        image = self.drawing.reference.copy()
        image[self.drawing.regions == self.region] = to_rgb(shades[(len(shades) - 1) // 2])
        return image


# Drawings and the tokens [N, 1 + n, D] of their references -> results uint8 [N, H, W, 3].
Coloured = Callable[[Sequence[Drawing], "Tensor"], np.ndarray]


def editable(split: Path, least: float, seed: int) -> list[Drawing]:
    """All drawings with a region to edit, each in its last colouring (a recolouring, where there is one), in an order by `seed`.

    A region to edit covers at least the share `least` of the canvas beside the lines, in a colour other than paper's and ink's.
    """
    from src.data.columns import Column
    from src.data.images import from_bytes

    color, sketch = Column(split / "color"), Column(split / "sketch")
    last = {key.rpartition("_")[0]: row for row, key in enumerate(color.keys)}
    drawings = []
    for row in np.random.default_rng(seed).permutation(list(last.values())).tolist():
        sample = color[row]
        if "regions.png" not in sample:
            raise UserError(f"{split / 'color'} has no regions, which this evaluation needs. Use data=openmoji.")
        meta, regions = json.loads(sample["json"]), from_bytes(sample["regions.png"], "L")
        ink = from_bytes(sample["line.png"], "L") <= PAINTED_PIXEL
        nouns = {"color": "clothes" if meta["person"] else ""}
        parts = tuple((part["color"], nouns.get(part["part"], part["part"])) for part in meta["parts"])
        areas = np.bincount(regions[~ink], minlength=len(parts) + 1) / regions.size
        large = tuple(i for i, (colour, _) in enumerate(parts, 1) if areas[i] >= least and colour not in PAPER_AND_INK)
        if large:
            lines, reference = from_bytes(sketch[row]["png"], "L"), from_bytes(sample["png"])
            drawings.append(Drawing(color.keys[row], seed * 1_000_003 + row, lines, reference, regions, ink, parts, large))
    return drawings


def requests(drawings: Sequence[Drawing], colours: Sequence[str], each: int, seed: int) -> list[Request]:
    """`each` colours for one region of each drawing, of the first `len(colours) - 1` that are not the region's own."""
    if not 1 <= each < len(colours):
        raise UserError(f"each is {each}; with {len(colours)} colours it must be 1 to {len(colours) - 1}.")
    rng = np.random.default_rng((seed, 1))
    chosen = []
    for drawing in drawings:
        region = int(rng.choice(drawing.large))
        others = [colour for colour in colours if colour != drawing.parts[region - 1][0]][: len(colours) - 1]
        chosen += [Request(drawing, region, others[i]) for i in rng.permutation(len(others))[:each]]
    return chosen


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="edits")
@reported
def main(config: DictConfig) -> None:
    evaluate_edits(config)


def evaluate_edits(config: DictConfig) -> list[dict[str, Any]]:
    """Edits the references of each colorizer, writes `<out>/<name>.json` and `<name>.npz`, and prints the tables.

    A colorizer whose result is there already, for the same weights and settings, is not sampled again.
    """
    import torch

    from src.backbone.parts import load_backbone
    from src.document import markdown
    from src.edits_page import edits_tables

    backbone = load_backbone(config.backbone).to("cuda" if torch.cuda.is_available() else "cpu")
    able = editable(Path(config.data.root) / "val", config.least, config.seed)
    if len(able) < config.drawings:
        raise UserError(f"{len(able)} held-out drawings have a region to edit, {config.drawings} were asked for. Lower drawings.")
    reports = [_evaluate_one(config, Path(folder), backbone, able) for folder in config.checkpoints]
    print(markdown(edits_tables(reports)))
    return reports


def _evaluate_one(config: DictConfig, folder: Path, backbone: Any, able: Sequence[Drawing]) -> dict[str, Any]:
    import time

    from src.data.columns import contents, read_index
    from src.files import config_hash, file_name, file_sha256, write_atomically, write_json
    from src.methods import Batch, colorize
    from src.model.colorizer import load_colorizer

    colorizer, card = load_colorizer(folder / "model", backbone.fingerprint)
    colorizer.to(next(backbone.vae.parameters()).device)
    values = plain(config)
    noise_level = config.noise_level if colorizer.kind == "attention" else 0.0  # CLS models have no local tokens
    options = values["backbone"].get("edit", {})
    asked = requests(able[: config.drawings], config.colours, config.each, config.seed)
    settings = {key: values[key] for key in SETTINGS} | {"noise_level": noise_level, "edit": options}
    data = {name: contents(read_index(Path(config.data.root) / "val" / name)) for name in ("color", "sketch")}
    identity = config_hash(
        settings
        | {"weights": file_sha256(folder / "model.safetensors"), "backbone": backbone.fingerprint}
        | {"asked": [(r.drawing.key, *r.words) for r in asked], "data": data}
    )
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{file_name(card.get('name', folder.name))}.json"
    if path.exists() and (report := json.loads(path.read_text(encoding="utf-8")))["identity"] == identity:
        print(f"{path} is up to date")
        return report

    def coloured(drawings: Sequence[Drawing], tokens: "Tensor") -> np.ndarray:
        whole = Batch(np.stack([d.sketch for d in drawings]), [d.seed for d in drawings], tokens.cpu().numpy())
        batch, how = config.scale.evaluation.batch, {"gs": config.gs, "noise_level": noise_level}
        slices = [slice(start, start + batch) for start in range(0, len(drawings), batch)]
        sampler = plain(config.sampler)
        return np.concatenate([colorize(colorizer, backbone, whole[rows], sampler=sampler, **how) for rows in slices])

    began = time.perf_counter()
    unedited, results = respond(asked, values["target_scales"], options, colorizer.kind, backbone, coloured)
    arrays: dict[str, Any] = {
        "sketches": np.stack([r.drawing.sketch for r in asked]),
        "references": np.stack([r.drawing.reference for r in asked]),
        "unedited": unedited,
        **{f"edited_{name}": images for name, images in results.items()},
    }
    report = {
        "name": path.stem,
        "kind": colorizer.kind,
        "identity": identity,
        **settings,
        **measure(asked, unedited, results, backbone),
    }
    if colorizer.kind == "attention":
        report["in_sequence"], pictures = sequences(able, config, options, backbone, coloured)
        arrays |= {f"sequence_{name}": images for name, images in pictures.items()}
    report["seconds"] = time.perf_counter() - began
    print(f"{path.stem}: {report['seconds']:.0f} s", flush=True)
    write_atomically(out / f"{path.stem}.npz", lambda f: np.savez_compressed(f, **arrays))
    write_json(path, report)
    return report


def respond(
    asked: Sequence[Request],
    target_scales: Sequence[float],
    options: dict[str, Any],
    kind: str,
    backbone: Any,
    coloured: Coloured,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Results uint8 [N, H, W, 3] of all requests: without edits, and by target scale and `REPAINTED`, with the same seeds."""
    import torch

    from src.manipulation import edit_tokens, encode_edits

    drawings = [request.drawing for request in asked]
    once = list({d.key: d for d in drawings}.values())
    tokens = dict(zip([d.key for d in once], _tokens(backbone, [d.reference for d in once]), strict=True))
    unedited = dict(zip(tokens, coloured(once, torch.stack(list(tokens.values()))), strict=True))
    results = {}
    for scale in target_scales:
        edits = encode_edits([r.spec(scale, options) for r in asked], backbone.text)
        edited = [edit_tokens(tokens[d.key][None], [edit], kind) for d, edit in zip(drawings, edits, strict=True)]
        results[f"{scale:g}"] = coloured(drawings, torch.cat(edited))
    results[REPAINTED] = coloured(drawings, _tokens(backbone, [request.repainted() for request in asked]))
    return np.stack([unedited[d.key] for d in drawings]), results


def sequences(
    able: Sequence[Drawing], config: DictConfig, options: dict[str, Any], backbone: Any, coloured: Coloured
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Two local edits, one after the other, of two regions of the first `config.sequences` drawings that have two.

    -> the edits in words, and pictures by name, uint8 [N, H, W(, 3)]: sketches, references, the correlation map and the zones of
    each edit (the second edit's are those of the tokens after the first), and the results after no, one and both edits.
    """
    import torch

    from src.manipulation import correlation_map, edit_tokens, encode_edits
    from src.manipulation.heatmaps import correlation_picture, zone_picture

    drawings = [drawing for drawing in able if len(drawing.large) > 1][: config.sequences]
    if not drawings:
        return [], {}
    rng = np.random.default_rng((config.seed, 2))
    words, after = [], {f"after_{done}": [] for done in range(3)}  # type: tuple[list[str], dict[str, list[Tensor]]]
    pictures: dict[str, list[np.ndarray]] = {name: [] for name in ("map_1", "zones_1", "map_2", "zones_2")}
    for drawing, tokens in zip(drawings, _tokens(backbone, [d.reference for d in drawings]), strict=True):
        regions = rng.permutation(drawing.large)[:2].tolist()
        own = [drawing.parts[region - 1][0] for region in regions]
        colours = rng.permutation([colour for colour in config.colours if colour not in own])[:2].tolist()
        pair = [Request(drawing, region, colour) for region, colour in zip(regions, colours, strict=True)]
        words.append(", then ".join(" to ".join(request.words) for request in pair))
        edits = encode_edits([request.spec(config.target_scales[-1], options) for request in pair], backbone.text)
        states = [edit_tokens(tokens[None], edits[:done], "attention") for done in range(3)]
        for done, state in enumerate(states):
            after[f"after_{done}"].append(state)
        for number, (edit, state) in enumerate(zip(edits, states, strict=False), 1):
            assert isinstance(edit.control, torch.Tensor)
            m = correlation_map(state[0, 1:], edit.control)
            pictures[f"map_{number}"].append(correlation_picture(drawing.reference, m))
            pictures[f"zones_{number}"].append(zone_picture(drawing.reference, m, edit.thresholds))
    return words, {
        "sketches": np.stack([d.sketch for d in drawings]),
        "references": np.stack([d.reference for d in drawings]),
        **{name: np.stack(images) for name, images in pictures.items()},
        **{name: coloured(drawings, torch.cat(state)) for name, state in after.items()},
    }


def measure(asked: Sequence[Request], unedited: np.ndarray, results: dict[str, np.ndarray], backbone: Any) -> dict[str, Any]:
    """Text response by target scale and for the repainted reference, by colour at the largest scale, and whether it is monotone;
    `direction` is the directional similarity by the backbone's CLIP.

    Intervals take drawings, not edits, as independent trials.
    """
    from src.metrics.features import clip_features
    from src.metrics.text_response import directional_similarity, monotone, text_response

    trials = len({request.drawing.key for request in asked})
    clip = clip_features(backbone).call
    own, new = (backbone.text(list(words)).cpu().numpy() for words in zip(*(request.words for request in asked), strict=True))
    before = clip(unedited)
    responses = {
        name: [
            {**text_response(old, after, r.drawing.regions, r.drawing.ink, r.region, r.colour), "direction": float(direction)}
            for r, old, after, direction in zip(
                asked, unedited, images, directional_similarity(before, clip(images), own, new), strict=True
            )
        ]
        for name, images in results.items()
    }
    scales = [name for name in results if name != REPAINTED]
    distances = [[r["distance_before"] for r in responses[scales[0]]], *([r["distance"] for r in responses[s]] for s in scales)]
    falling = monotone(np.array(distances).T)
    by_colour = {
        colour: [r for r, request in zip(responses[scales[-1]], asked, strict=True) if request.colour == colour]
        for colour in dict.fromkeys(request.colour for request in asked)
    }
    return {
        "edits": [" to ".join(request.words) for request in asked],
        "distance_before": float(np.mean(distances[0])),
        "responses": {name: _summary(part, trials) for name, part in responses.items()},
        "by_colour": {colour: _summary(part, len(part)) for colour, part in by_colour.items()},
        "monotone": _share(falling, trials),
    }


def _summary(responses: Sequence[dict[str, float]], trials: int) -> dict[str, Any]:
    """Shares and means over edits. `others` and `background` are relative to the change of the edited regions they go with."""

    def change(name: str) -> dict[str, float | None]:
        there = [r for r in responses if not np.isnan(r[name])]
        if not there:
            return {"mean": None, "relative": None}
        own, mean = np.mean([r["region"] for r in there]), np.mean([r[name] for r in there])
        return {"mean": float(mean), "relative": float(mean / own) if own else None}

    directions = [r["direction"] for r in responses if not np.isnan(r["direction"])]
    return {
        "edits": len(responses),
        "closer": _share([r["closer"] for r in responses], trials),
        "named": _share([r["named"] for r in responses], trials),
        "distance": float(np.mean([r["distance"] for r in responses])),
        "direction": float(np.mean(directions)) if directions else None,
        **{name: change(name) for name in ("region", "others", "background")},
    }


def _share(values: Sequence[float] | np.ndarray, trials: int) -> dict[str, float]:
    from src.metrics.palette import wilson_interval

    share = float(np.mean(values))
    return dict(zip(("share", "low", "high"), (share, *wilson_interval(share, trials)), strict=True))


def _tokens(backbone: Any, images: Sequence[np.ndarray]) -> "Tensor":
    """CLIP tokens [N, 1 + n, D] of uint8 images [H, W, 3]."""
    import torch

    from src.backbone.parts import to_input

    device = next(backbone.vae.parameters()).device
    with torch.inference_mode():
        return torch.cat([backbone.tokens(to_input(torch.from_numpy(image.copy())[None]).to(device)) for image in images])


if __name__ == "__main__":
    main()
