"""Held-out drawings to evaluate on: sketches with references, and the way to another method's results of them and back."""

import copy
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.data.storage import Location
from src.files import UserError, config_hash, write_atomically
from src.methods import Batch, Words


class Pairs:
    """Held-out sketches, each with another drawing as its reference (the evaluation of Tables 1 and 2), or with its own.

    `sketches` uint8 [N, H, W], `references` and `truths` uint8 [N, H, W, 3], `tokens` half [N, 1 + n, D], `words` and
    `reference_words` as the column color has them, `keys`, `seeds`, and `contents`, a hash of the bytes of each column that they
    are from.
    Which rows, which partners and which noise depend on (count, seed) alone.
    """

    def __init__(
        self, split: Location, count: int, seed: int, backbone: Any = None, size: int | None = None, own: bool = False
    ) -> None:
        """`backbone` makes the tokens where the split has no column of them. Drawings are cut to a square of `size`, if given.
        own: each drawing is its own reference.
        """
        from src.data.columns import contents
        from src.data.loader import Table
        from src.data.storage import folder

        cached = backbone is None or "tokens" in folder(split).folders()
        table = Table(split, ["color", "sketch", "meta", *(["tokens"] if cached else [])], [(size, size)] if size else [])
        if count > len(table):
            raise UserError(f"{split} has {len(table)} rows, {count} were asked for. Lower evaluation.images or raise variants.")
        rows = np.random.default_rng(seed).permutation(len(table))[:count]
        chosen = [table[int(row)] for row in rows]
        self.contents = {name: contents(column.index) for name, column in table.columns.items() if name != "meta"}
        self.keys = [sample["key"] for sample in chosen]
        self.seeds = [seed * 1_000_003 + int(row) for row in rows]
        self.sketches = np.stack([s["sketch"].numpy() for s in chosen])
        self.truths = np.stack([s["color"].numpy() for s in chosen])
        if cached:
            self._tokens = np.stack([s["tokens"].half().numpy() for s in chosen])
        else:
            self._tokens = _tokens(self.truths, backbone)
        self.words = [Words(s["caption"], s["person"]) for s in chosen]
        self.own, self.places = own, np.arange(count)
        self._refer(np.arange(count) if own else partners(self.drawings))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def drawings(self) -> list[str]:
        """What each sketch shows: variants of one drawing (OpenMoji's keys are `<drawing>_<number>`) have one name."""
        return [re.sub(r"_\d+$", "", key) for key in self.keys]

    @property
    def identity(self) -> str:
        """The hash of which sketches and references these are."""
        return config_hash([self.keys, self.own, self.contents])

    def _refer(self, partner: np.ndarray) -> None:
        self.references, self.tokens = self.truths[partner], self._tokens[partner]
        self.reference_words = [self.words[i] for i in partner.tolist()]

    @property
    def batch(self) -> Batch:
        """What a method is given of them."""
        return Batch(self.sketches, self.seeds, self.tokens, self.references, self.words, self.reference_words)

    def of_different_drawings(self, count: int) -> "Pairs":
        """Up to `count` of them, no two of which show one drawing; `places` says where they stand among all."""
        places = list({drawing: i for i, drawing in reversed(list(enumerate(self.drawings)))}.values())[::-1][:count]
        part = copy.copy(self)
        part.places = np.array(places)
        for name in ("keys", "seeds", "words", "reference_words"):
            setattr(part, name, [getattr(self, name)[i] for i in places])
        for name in ("sketches", "truths", "references", "tokens", "_tokens"):
            setattr(part, name, getattr(self, name)[places])
        return part

    def with_permuted_tokens(self) -> "Pairs":
        """The same, with the local tokens of each reference in another random order."""
        other = copy.copy(self)
        local = np.arange(1, self.tokens.shape[1])
        orders = [[0, *np.random.default_rng(seed).permutation(local)] for seed in self.seeds]
        other.tokens = np.stack([tokens[order] for tokens, order in zip(self.tokens, orders, strict=True)])
        return other

    def with_other_references(self) -> "Pairs":
        """The same sketches and seeds, each with another drawing as its reference than it has now (which is not its own)."""
        other = copy.copy(self)
        other._refer(partners(self.drawings, 1))
        return other


def _tokens(images: np.ndarray, backbone: Any) -> np.ndarray:
    import torch

    from src.backbone.parts import to_input

    with torch.inference_mode():
        parts = [backbone.tokens(to_input(torch.from_numpy(image)[None])).cpu().half().numpy() for image in images]
    return np.concatenate(parts)


def partners(drawings: Sequence[str], skip: int = 0) -> np.ndarray:
    """For each place another place with another drawing: the smallest rotation of the list that has no fixed drawing, or the
    next one after `skip` of them.
    """
    count = len(drawings)
    for shift in range(1, count):
        order = np.roll(np.arange(count), -shift)
        if all(drawings[i] != drawings[j] for i, j in enumerate(order.tolist())):
            if not skip:
                return order
            skip -= 1
    raise UserError(f"{count} drawings cannot be paired with other ones. Raise evaluation.images.")


def export(pairs: Pairs, folder: Path) -> None:
    """Writes the pairs for another method: `sketch`, `reference` and `truth`, each `<key>.png`, and `pairs.csv`, a list as
    `python -m src.sample pairs=` takes it. UserError if the folder is there and not empty.
    """
    from src.data.images import to_png

    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty. Give export= another folder.")
    for name, images in (("sketch", pairs.sketches), ("reference", pairs.references), ("truth", pairs.truths)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for key, image in zip(pairs.keys, images, strict=True):
            write_atomically(folder / name / f"{key}.png", lambda f, image=image: f.write(to_png(image)))  # type: ignore[misc]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["sketch", "reference", "output", "seed"])
    rows.writerows([f"sketch/{k}.png", f"reference/{k}.png", f"{k}.png", s] for k, s in zip(pairs.keys, pairs.seeds, strict=True))
    write_atomically(folder / "pairs.csv", lambda f: f.write(text.getvalue().encode()))


def results_of(pairs: Pairs, folder: Path) -> np.ndarray:
    """Another method's results `<key>.png` (or `.jpg`, `.webp`) of the pairs that `export` wrote -> uint8 [N, H, W, 3].

    UserError: one is missing, cannot be read, or has another size than the sketches.
    """
    from src.data.images import ImageError, from_bytes

    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}. Give results=<a folder of pictures>.")
    images = []
    for key in pairs.keys:
        found = [path for suffix in ("png", "jpg", "webp") if (path := folder / f"{key}.{suffix}").is_file()]
        if len(found) != 1:
            what = "several pictures" if found else "no picture"
            raise UserError(f"{folder} has {what} {key} (.png, .jpg or .webp). `export=<folder>` writes what each is made from.")
        try:
            image = from_bytes(found[0].read_bytes())
        except (ImageError, OSError) as error:
            raise UserError(f"{found[0]} cannot be read ({error}).") from None
        if image.shape != pairs.truths[0].shape:
            height, width = pairs.truths[0].shape[:2]
            raise UserError(f"{found[0]} has {image.shape[1]} x {image.shape[0]} pixels; it must have {width} x {height}.")
        images.append(image)
    return np.stack(images)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """What `src.evaluate` keeps of its results: pictures uint8 [N, H, W, 3] by cell, and values [N] by cell and measure."""
    images: dict[str, np.ndarray] = {}
    samples: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            kind, cell, *measure = name.split(" ", 2)
            if kind == "images":
                images[cell] = arrays[name]
            else:
                samples.setdefault(cell, {})[measure[0]] = arrays[name]
    return images, samples
