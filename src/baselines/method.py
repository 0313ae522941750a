"""A row of `conf/baseline` as a method: a base with its adapters, put together from `conf/weights`."""

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from src.backbone.parts import to_input
from src.baselines.adapters import attach_ip_adapter, load_folder, load_ip_adapter
from src.baselines.conditions import condition_of
from src.baselines.prompts import prompts
from src.baselines.sampler import Control, Reference, sample
from src.baselines.weights import load_base, named, sha256_of
from src.config import plain
from src.data.images import resized, working_size
from src.files import UserError
from src.methods import Batch, Cell, Method, Progress
from src.sampling.batch import precision_of


class Baseline(Method):
    """Loaded from a configuration with the groups `baseline`, `weights`, `sampler` and `backbone`.

    Its guidance scale is its own: it fills one cell of a table.
    """

    def __init__(self, config: DictConfig) -> None:
        self.row, self.common = plain(config.baseline), plain(config.weights)["prompts"]
        self.name, self.precision = self.row["name"], config.precision
        self.settings = {
            "sampler": plain(config.sampler),
            "baseline": self.row,
            "prompts": self.common,
            "weights": config.weights.name,
        }
        self.steps = config.sampler.steps
        self.base = load_base(config, self.row["base"])
        self.weights = {"base": sha256_of(named(config.weights, "bases", self.row["base"]).source)}
        if not self.base.cached:  # else they are the backbone that the evaluation names
            self.weights["encoders"] = self.base.fingerprint
        self.control = self._part(config, "controls", self.row["control"])
        self.adapter = self._part(config, "t2i_adapters", self.row["t2i_adapter"])
        if self.row["image"] is not None:
            source = named(config.weights, "ip_adapters", self.row["image"])
            self.weights["ip_adapters"] = sha256_of(source)
            attach_ip_adapter(self.base.unet, load_ip_adapter(source), self.row["image_scale"])
        if self.row["reference_only"] is not None:
            from src.baselines.reference_only import ReferenceAttention, layers_of

            known = layers_of(self.base.unet)
            if unknown := [block for block in self.row["reference_only"]["adain"] if block not in known]:
                raise UserError(f"baseline.reference_only.adain names {unknown[0]}; the blocks are {', '.join(known)}.")
            self.base.unet.set_attn_processor(ReferenceAttention())
        self.base.unet.requires_grad_(False).eval()
        self.made_from = {"weights": self.weights}

    def _part(self, config: DictConfig, group: str, name: str | None) -> tuple[Any, str] | None:
        """A network and the kind of condition that it is shown."""
        if name is None:
            return None
        entry = named(config.weights, group, name)
        self.weights[group] = sha256_of(entry.source)
        if entry.get("kind") == "lllite":
            from src.baselines.lllite import load_lllite

            return load_lllite(entry.source, self.base.unet), entry.condition
        return load_folder("T2IAdapter" if group == "t2i_adapters" else "ControlNetModel", entry.source), entry.condition

    def cells(self, wanted: Sequence[Cell]) -> list[Cell]:
        return [Cell(None)]

    def passes(self, cell: Cell) -> int:
        return (1 if self.row["gs"] == 1 else 2) * (1 if self.row["reference_only"] is None else 2)

    def on(self, device: torch.device) -> "Baseline":
        own = copy.deepcopy(self)
        dtype = precision_of(self.precision, device)
        own.base.to(device, dtype)
        for part in (own.control, own.adapter):
            if part is not None:
                nn.Module.to(part[0], device, dtype)
        return own

    def __call__(self, batch: Batch, cell: Cell, progress: Progress | None = None) -> np.ndarray:
        with torch.inference_mode():
            positive, negative = (self.base.texts(texts) for texts in prompts(self.row, self.common, batch))
            with self._lines_attached(batch):
                latents = sample(
                    self.base, positive, negative, batch.seeds, size=self._size(batch), gs=self.row["gs"],
                    progress=progress, **self._shown(batch), **self.settings["sampler"],
                )  # fmt: skip
            images = self.base.decode(latents).cpu().numpy()
        return _resized(images, *batch.sketches.shape[1:3])

    def _size(self, batch: Batch) -> tuple[int, int]:
        """The sketches' proportions with the base's size on the shorter side; multiples of what the U-Net halves down."""
        height, width = batch.sketches.shape[1:3]
        multiple = self.base.factor * 2 ** (len(self.base.unet.config.block_out_channels) - 1)
        return working_size(height, width, self.base.size, multiple)

    def _lines_attached(self, batch: Batch) -> Any:
        """Within it the U-Net has the control's LLLite in it, if the control is one."""
        from src.baselines.lllite import attached

        if not self.control or not isinstance(self.control[0], nn.ModuleDict):
            return nullcontext()
        network, kind = self.control
        condition = condition_of(kind, batch.sketches, self._size(batch))
        return attached(self.base.unet, network, condition, self.row["control_scale"])

    def _shown(self, batch: Batch) -> dict[str, Any]:
        """What the adapters are shown, as arguments of `sample`."""
        size, row = self._size(batch), self.row
        shown: dict[str, Any] = {}
        if self.control and not isinstance(self.control[0], nn.ModuleDict):
            network, kind = self.control
            shown["controls"] = [Control(network, condition_of(kind, batch.sketches, size), row["control_scale"])]
        if self.adapter:
            network, kind = self.adapter
            weight = next(network.parameters())
            shown["features"] = [row["t2i_scale"] * level for level in network(condition_of(kind, batch.sketches, size).to(weight))]
        if row["image"] is not None:
            shown["image"] = self.base.images(self._references(batch))
        if row["reference_only"] is not None:
            references = torch.nn.functional.interpolate(self._references(batch), size, mode="bicubic", antialias=True)
            shown["reference"] = Reference(self.base.encode(references), **row["reference_only"])
        return shown

    def _references(self, batch: Batch) -> Tensor:
        device = next(self.base.unet.parameters()).device
        return to_input(torch.from_numpy(np.ascontiguousarray(batch.references))).to(device)


def _resized(images: np.ndarray, height: int, width: int) -> np.ndarray:
    return images if images.shape[1:3] == (height, width) else np.stack([resized(image, height, width) for image in images])
