"""Methods: pairs in, images out, whoever made them. Evaluation, grids and the app treat our models and the baselines alike."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Progress = Callable[[int, Any], None]  # the number of steps done, and the present estimate of the latents

OUTSIDE = "-"  # the cell of a method whose guidance scale is its own affair


class Cell(NamedTuple):
    """A place in a table: guidance scales of reference and sketch, or None for a method that has its own."""

    gs: float | None
    sgs: float = 1.0

    def __str__(self) -> str:
        return OUTSIDE if self.gs is None else f"{self.gs:g}" + (f"/{self.sgs:g}" if self.sgs != 1 else "")


class Words(NamedTuple):
    """What is known of a drawing in words: its caption, and whether it shows a figure."""

    caption: str = ""
    figure: bool = False


@dataclass(frozen=True, eq=False)
class Batch:
    """What a method is given: sketches uint8 [N, H, W] with black lines on white, seeds of their noise, references uint8
    [N, H, W, 3], the references' CLIP tokens [N, 1 + n, D] by the backbone, and the words of sketches' drawings and references.

    A method reads what it needs of it: ours the tokens, text-guided ones the words.
    """

    sketches: np.ndarray
    seeds: Sequence[int]
    tokens: np.ndarray | None = None
    references: np.ndarray | None = None
    words: Sequence[Words] = ()
    reference_words: Sequence[Words] = ()

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, rows: slice) -> "Batch":
        def part(values: Any) -> Any:
            return values if values is None else values[rows]

        return Batch(
            self.sketches[rows], self.seeds[rows], part(self.tokens), part(self.references),
            self.words[rows], self.reference_words[rows],
        )  # fmt: skip


class Method(ABC):
    """A way to colour sketches.

    name: of its row. settings: how it samples, all that its results depend on beside made_from, the hashes of its weights.
    steps: of the sampler. known: what else a report says of it. training_run: in MLflow. has_local_tokens: whether it could make a
    difference to it in what order the reference's tokens come.
    """

    name: str
    settings: Mapping[str, Any]
    made_from: Mapping[str, Any]
    steps: int
    known: Mapping[str, Any] = {}
    training_run: str | None = None
    has_local_tokens: bool = False

    @abstractmethod
    def cells(self, wanted: Sequence[Cell]) -> list[Cell]:
        """The cells that this method fills of those that a table asks for."""

    @abstractmethod
    def passes(self, cell: Cell) -> int:
        """Passes of the U-Net over a drawing, a step."""

    @abstractmethod
    def on(self, device: Any) -> "Method":
        """A copy with its networks on a device."""

    @abstractmethod
    def __call__(self, batch: Batch, cell: Cell, progress: Progress | None = None) -> np.ndarray:
        """Results uint8 [N, H, W, 3], as large as the sketches. progress: see `src.sampling.sampler.sample`."""


class Ours(Method):
    """A colorizer from a run's folder, on the backbone that it was trained on."""

    def __init__(
        self,
        folder: Path,
        backbone: Any,
        sampler: Mapping[str, Any],
        noise_level: float = 0.0,
        precision: str = "auto",
        compiled: bool = False,
    ) -> None:
        from src.files import file_sha256
        from src.model.colorizer import load_colorizer

        self.colorizer, card = load_colorizer(folder / "model", backbone.fingerprint)
        self.backbone, self.how = backbone, (precision, compiled)
        self.name, self.training_run = card.get("name", folder.name), card.get("mlflow_run")
        validation = {key: card.get(key) for key in ("val_loss", "val_loss_without_reference")}
        self.known = {"folder": str(folder), "validation": validation}
        self.has_local_tokens = self.colorizer.kind == "attention"
        # CLS models have no local tokens to noise.
        self.settings = {"sampler": dict(sampler), "noise_level": noise_level if self.has_local_tokens else 0.0}
        self.made_from = {"checkpoint": file_sha256(folder / "model.safetensors")}
        self.steps = sampler["steps"]

    def cells(self, wanted: Sequence[Cell]) -> list[Cell]:
        return list(wanted)

    def passes(self, cell: Cell) -> int:
        return 1 + (cell.gs != 1) + (cell.sgs != 1)

    def on(self, device: Any) -> "Ours":
        from src.sampling.batch import replica

        own = copy.copy(self)
        own.colorizer = replica(self.colorizer, device, *self.how)
        own.backbone = copy.deepcopy(self.backbone).to(device)
        return own

    def __call__(self, batch: Batch, cell: Cell, progress: Progress | None = None) -> np.ndarray:
        return colorize(self.colorizer, self.backbone, batch, gs=cell.gs, sgs=cell.sgs, progress=progress, **self.settings)


def colorize(colorizer: Any, backbone: Any, batch: Batch, *, sampler: Mapping[str, Any], **options: Any) -> np.ndarray:
    """Results uint8 [N, H, W, 3] of sketches with their tokens, on the colorizer's and the backbone's device.

    sampler: `conf/sampler`; options: what else `sample` takes.
    """
    import torch

    from src.backbone.parts import sketch_to_input
    from src.sampling.sampler import sample

    device = next(colorizer.parameters()).device
    latents = sample(
        colorizer,
        sketch_to_input(torch.from_numpy(batch.sketches)).to(device),
        torch.from_numpy(batch.tokens).to(device).float(),
        batch.seeds,
        latent_channels=backbone.latent_channels,
        factor=backbone.size // backbone.latent_size,
        **sampler,
        **options,
    )
    with torch.inference_mode():
        return backbone.decode(latents).cpu().numpy()
