"""What pictures are made with: the checkpoints that were found, loaded when they are first used, and the app's own folder."""

import functools
import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from src.config import compose, plain
from src.files import UserError, config_hash, write_atomically
from src.recipe import check, recipe, write

DEMO = {"noisy": "Demo, follows places (Noisy attention)", "cls": "Demo, whole picture (CLS)"}
LOADED = 4  # models that are kept in memory
REMEMBERED = 16  # references whose tokens are


@dataclass(frozen=True)
class Studio:
    """folder: where the app writes its pictures. checkpoints: folders of finished models by the names that a request may say."""

    folder: Path
    checkpoints: Mapping[str, Path]
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _models: dict[str, Any] = field(default_factory=dict)
    _tokens: dict[str, Any] = field(default_factory=dict)

    def model(self, name: str) -> Any:
        """The `src.picture.Model` of that name. UserError: there is none, or its files do not fit the backbone."""
        with self._lock:
            if name not in self._models:
                if name not in self.checkpoints:
                    raise UserError(f"There is no model {name[:60]!r} here. Choose one of the list.")
                from src.picture import load

                _make_room(self._models, LOADED)
                self._models[name] = load({**settings(), "checkpoint": str(self.checkpoints[name])})
            return self._models[name]

    def tokens(self, name: str, reference: np.ndarray) -> Any:
        """CLIP's tokens [1, 1 + n, D] of a reference uint8 [H, W, 3], remembered."""
        import torch

        from src.backbone.parts import to_input
        from src.picture import resized

        backbone = self.model(name).backbone
        key = f"{backbone.fingerprint}{reference.shape}{hashlib.sha256(reference.tobytes()).hexdigest()}"
        with self._lock:
            if key not in self._tokens:
                _make_room(self._tokens, REMEMBERED)
                pixels = torch.from_numpy(resized(reference, backbone.size, backbone.size))[None]
                with torch.inference_mode():
                    self._tokens[key] = backbone.tokens(to_input(pixels).to(next(backbone.vae.parameters()).device))
            return self._tokens[key]

    def keep(self, pixels: np.ndarray) -> tuple[Path, str]:
        """Writes an input as a PNG file that is named by its content: its path and sha256."""
        from src.data.images import to_png

        data = to_png(pixels)
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.folder / "inputs" / f"{sha256[:16]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_atomically(path, lambda f: f.write(data))
        return path, sha256


def _make_room(kept: dict[str, Any], most: int) -> None:
    while len(kept) >= most:
        kept.pop(next(iter(kept)))


@functools.cache
def settings() -> dict[str, Any]:
    """The configuration of `src.sample`, with all defaults."""
    return plain(compose([], "sample"))


def checkpoints() -> dict[str, Path]:
    """Folders with a finished model, from the current folder as `src.sample` sees it: the two of the demo, then every run's."""
    demo, runs = Path(settings()["backbone"]["directory"]), Path("runs")
    found = {name: demo / name for name in DEMO if (demo / name / "model.safetensors").is_file()}
    return found | {str(path.parent.relative_to(runs)): path.parent for path in sorted(runs.glob("*/*/*/model.safetensors"))}


def labels(studio: Studio) -> list[tuple[str, str]]:
    """What a list of the models shows, and the name that stands for it."""
    return [(DEMO.get(name, name), name) for name in studio.checkpoints]


# Told of each step: its number, that of all steps, and the picture so far, or None where there is no new one.
Progress = Callable[[int, int, np.ndarray | None], None]


@dataclass(frozen=True)
class Made:
    """A finished picture: its file, with the recipe in it, and its pixels uint8 [h, w, 3]."""

    path: Path
    pixels: np.ndarray
    seed: int


def make(
    studio: Studio,
    name: str,
    choices: Mapping[str, Any],
    sketch: np.ndarray,
    reference: np.ndarray,
    progress: Progress,
    edits: Sequence[Mapping[str, Any]] = (),
) -> Made:
    """Makes one picture and writes it with its recipe, and its inputs beside it, so that `src.sample` can make it again.

    choices: values of `conf/sample.yaml` other than its defaults. sketch uint8 [H, W], reference uint8 [H, W, 3].
    UserError: a value that cannot be.
    """
    model = studio.model(name)
    images, paths, sha256 = {"sketch": sketch, "reference": reference}, {}, {}
    for key, pixels in images.items():
        path, sha256[key] = studio.keep(pixels)
        paths[key] = str(path)
    wanted = {**settings(), **choices, **paths, "checkpoint": str(studio.checkpoints[name])}
    check(wanted)
    drawing, pixels = colored_once(model, wanted, images, progress, sha256, edits)
    made = recipe(drawing.settings, drawing.sha256, 1)
    path = studio.folder / "pictures" / f"{config_hash(made)[:16]}.png"
    write(path, pixels, made)
    return Made(path, pixels, drawing.settings["seed"])


def colored_once(
    model: Any,
    wanted: Mapping[str, Any],
    images: Mapping[str, np.ndarray],
    progress: Progress,
    sha256: Mapping[str, str] | None = None,
    edits: Sequence[Mapping[str, Any]] = (),
) -> tuple[Any, np.ndarray]:
    """One drawing, arranged and sampled, and its pixels; writes nothing."""
    from src.picture import arranged, colored, decoded, edited

    if edits:
        model, _ = edited(model, edits, settings()["backbone"].get("edit", {}))
    drawing = arranged(wanted, images, sha256 or {}, model)
    steps, cost, last = drawing.settings["sampler"]["steps"], 0.0, 0.0

    def step(done: int, estimate: Any) -> None:
        nonlocal cost, last
        began = time.perf_counter()
        preview = None
        if began - last >= 4 * cost and done < steps:  # previews take a fifth of the time at most, whatever the VAE
            preview = decoded(estimate[0], model)
            last = time.perf_counter()
            cost = last - began
        progress(done, steps, preview)

    return drawing, next(colored([drawing], model, step))
