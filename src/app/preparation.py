"""What volunteers rate: held-out pairs coloured by each model, before and after an edit (`conf/rating.yaml`, docs/rating.md)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.app.study import Item, keep_picture, write_items
from src.files import UserError, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

PAPER_AND_INK = ("white", "black")
POOL = 10  # held-out pairs that are looked at for each one that is shown: not every pair has an edit whose words fit its sketch


@dataclass(frozen=True)
class Shown:
    """The pairs of a study: what `export` and `results_of` read of `src.held_out.Pairs`, and an edit of each.

    sketches uint8 [N, H, W], references and truths uint8 [N, H, W, 3], tokens [N, 1 + n, D] of the references; edits: what the
    reference shows in a region, and what it shall show there, in words; none of them, or one for each pair.
    """

    keys: Sequence[str]
    seeds: Sequence[int]
    sketches: np.ndarray
    references: np.ndarray
    truths: np.ndarray
    tokens: np.ndarray
    edits: Sequence[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.keys)


def prepare(values: Mapping[str, Any]) -> list[Item]:
    """Makes the items of a configuration (`conf/rating.yaml`, as a plain dictionary) in its folder `out`, or exports their pairs.

    Pictures of an earlier preparation that are none of these are removed. UserError: too few pairs, two models of one name, or
    another method's picture that is missing.
    """
    import torch

    from src.backbone.parts import load_backbone
    from src.data.images import to_png
    from src.held_out import export

    backbone = load_backbone(values["backbone"]).to("cuda" if torch.cuda.is_available() else "cpu")
    shown = choose(Path(values["data"]["root"]) / "val", values["pairs"], values["edit"], values["seed"], backbone)
    if values["export"] is not None:
        folder = Path(values["export"])
        export(shown, folder)  # type: ignore[arg-type]
        lines = [f'{key},"{words(edit)}"\n' for key, edit in zip(shown.keys, shown.edits, strict=False)]
        write_atomically(folder / "edits.csv", lambda f: f.write("".join(["key,edit\n", *lines]).encode()))
        return []
    out = Path(values["out"])
    out.mkdir(parents=True, exist_ok=True)
    items: list[Item] = []
    for model, results, edited in _results(values, shown, backbone):
        if model in {item.model for item in items}:
            raise UserError(f"Two models are called {model!r}, which volunteers' ratings could not tell apart: rename one.")
        for i, key in enumerate(shown.keys):
            pictures = (shown.sketches[i], shown.references[i], results[i], *(edited[i : i + 1] if edited is not None else ()))
            names = [keep_picture(out, to_png(pixels)) for pixels in pictures]
            items.append(Item(key, model, *names, *([words(shown.edits[i])] if edited is not None else [])))
        print(f"{model}: {len(shown)} pairs", flush=True)
    write_items(out, values["seed"], items)
    used = {name for item in items for name in (item.sketch, item.reference, item.result, item.edited)}
    for path in out.glob("*.png"):
        if path.name not in used:
            path.unlink()
    return items


def words(edit: tuple[str, str]) -> str:
    """An edit as volunteers read it."""
    return f"{edit[1]} instead of {edit[0]}"


def choose(split: Path, count: int, edit: Mapping[str, Any], seed: int, backbone: Any) -> Shown:
    """The first `count` held-out pairs, in the order of the seed, of different sketches and with an edit that fits.

    An edit asks for another colour of a part (hair, skin, clothes, or the whole thing) that the reference has and the sketch's own
    drawing as well: a volunteer can see in the result what "blue hair" means. UserError: there are too few.
    """
    from src.data.columns import Column
    from src.held_out import Pairs, partners

    color = Column(split / "color")
    pool = Pairs(split, min(len(color), POOL * count), seed, backbone)
    places = {key: place for place, key in enumerate(color.keys)}
    rng = np.random.default_rng((seed, 1))
    chosen: dict[str, tuple[int, tuple[str, str] | None]] = {}  # by drawing
    for place, partner in enumerate(partners(pool.drawings).tolist()):
        if len(chosen) == count or pool.drawings[place] in chosen:
            continue
        found = None
        if edit["colours"]:
            own, other = (parts(color[places[pool.keys[i]]], edit["least"]) for i in (place, partner))
            found = _edit(own, other, edit["colours"], rng)
            if found is None:
                continue
        chosen[pool.drawings[place]] = place, found
    if len(chosen) < count:
        raise UserError(
            f"{split} gives {len(chosen)} pairs with an edit, {count} were asked for: lower pairs=, or give edit.colours=[]."
        )
    rows = [place for place, _ in chosen.values()]
    return Shown(
        [pool.keys[row] for row in rows],
        [pool.seeds[row] for row in rows],
        pool.sketches[rows],
        pool.references[rows],
        pool.truths[rows],
        pool.tokens[rows],
        [found for _, found in chosen.values() if found is not None],
    )


def parts(sample: Mapping[str, bytes], least: float) -> list[tuple[str, str]]:
    """Colour and noun ("" = the thing itself) of each region of a drawing that covers at least the share `least` of it.

    UserError where the data set knows no regions.
    """
    from src.data.images import from_bytes

    if "regions.png" not in sample:
        raise UserError("These drawings have no regions, which edits are made of: use data=openmoji, or give edit.colours=[].")
    meta, regions = json.loads(sample["json"]), from_bytes(sample["regions.png"], "L")
    nouns = {"color": "clothes" if meta["person"] else ""}
    areas = np.bincount(regions.ravel(), minlength=len(meta["parts"]) + 1) / regions.size
    named = [(part["color"], nouns.get(part["part"], part["part"])) for part in meta["parts"]]
    return [part for i, part in enumerate(named, 1) if areas[i] >= least]


def _edit(
    own: Sequence[tuple[str, str]], other: Sequence[tuple[str, str]], colours: Sequence[str], rng: np.random.Generator
) -> tuple[str, str] | None:
    """The words of an edit of a reference with the parts `other`, for a sketch of a drawing with the parts `own`."""
    nouns = {noun for _, noun in own}
    able = [(colour, noun) for colour, noun in other if noun in nouns and colour not in PAPER_AND_INK]
    if not able:
        return None
    colour, noun = able[rng.integers(len(able))]
    new = rng.choice([c for c in colours if c != colour])
    return f"{colour} {noun}".strip(), f"{new} {noun}".strip()


def _results(values: Mapping[str, Any], shown: Shown, backbone: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Name, results and edited results (None = it has no edits) of each model, uint8 [N, H, W, 3]."""
    from src.held_out import results_of
    from src.model.colorizer import load_colorizer

    for folder in map(Path, values["checkpoints"]):
        colorizer, card = load_colorizer(folder / "model", backbone.fingerprint)
        colorizer.to(next(backbone.vae.parameters()).device)
        edited = None
        if shown.edits:
            edited = _coloured(values, colorizer, shown, _edited(values, colorizer.kind, shown, backbone), backbone)
        yield card.get("name", folder.name), _coloured(values, colorizer, shown, shown.tokens, backbone), edited
    for name, folder in values["others"].items():
        after = Path(folder) / "edited"
        edited = results_of(shown, after) if shown.edits and after.is_dir() else None  # type: ignore[arg-type]
        yield name, results_of(shown, Path(folder)), edited  # type: ignore[arg-type]


def _edited(values: Mapping[str, Any], kind: str, shown: Shown, backbone: Any) -> np.ndarray:
    """The references' tokens [N, 1 + n, D] after the edits: Algorithm 1 or 2 of the paper, as the kind of colorizer needs."""
    import torch

    from src.manipulation import edit_tokens, encode_edits

    options = values["backbone"].get("edit", {})
    scale = values["edit"]["target_scale"]
    specs = [{"target": new, "anchor": own, "control": own, "target_scale": scale, **options} for own, new in shown.edits]
    tokens: Tensor = torch.from_numpy(shown.tokens).to(next(backbone.vae.parameters()).device).float()
    with torch.inference_mode():
        edits = encode_edits(specs, backbone.text)
        changed = [edit_tokens(tokens[i : i + 1], [edit], kind) for i, edit in enumerate(edits)]
        return torch.cat(changed).cpu().numpy()


def _coloured(values: Mapping[str, Any], colorizer: Any, shown: Shown, tokens: np.ndarray, backbone: Any) -> np.ndarray:
    from src.methods import Batch, colorize

    how = {"gs": values["gs"], "noise_level": values["noise_level"] if colorizer.kind == "attention" else 0.0}
    batch = Batch(shown.sketches, shown.seeds, tokens)
    slices = [slice(start, start + values["batch"]) for start in range(0, len(shown), values["batch"])]
    return np.concatenate([colorize(colorizer, backbone, batch[rows], sampler=values["sampler"], **how) for rows in slices])
