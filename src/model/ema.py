"""Averages of the weights with power-function profiles, whose width can be chosen after the training (Karras et al. 2024,
*Analyzing and Improving the Training Dynamics of Diffusion Models*, section 3 and appendix C; equations as edm2 numbers them).

The average at step t weighs the weights of step tau <= t with the profile p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1). Its
width is the standard deviation of tau under p, relative to t. Training tracks a few widths and writes snapshots of them; any
other profile is then, nearly, a linear combination of the profiles of the snapshots, and its average that of the snapshots.
"""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn

from src.files import UserError, write_atomically

WIDEST = 12**-0.5  # gamma = 0: all steps weigh the same


def exponent(std: npt.ArrayLike) -> Any:
    """gamma of the profile of relative width `std` (Eq. 126), float64 of the same shape. ValueError outside (0, 1/sqrt(12)).

    Eq. 123 says std^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)). With u = gamma + 2 and r = std^-2 that is
    u^3 + u^2 - r u + r = 0, which has three real roots; the largest, by Viete's formula, is the one with gamma > 0.
    """
    std = np.asarray(std, dtype=np.float64)
    if not np.all((std > 0) & (std < WIDEST)):
        raise ValueError(f"The relative width of an average lies between 0 and {WIDEST:.4f}, not at {std}.")
    r = std**-2.0
    p, q = r + 1 / 3, 2 / 27 + r * 4 / 3  # v^3 - p v + q = 0 for v = u + 1/3
    return 2 * np.sqrt(p / 3) * np.cos(np.arccos(-1.5 * q / p * np.sqrt(3 / p)) / 3) - 1 / 3 - 2


def decay(step: int, gamma: float) -> float:
    """Eq. 127: what remains of the average at `step` (1, 2, ...). The first is 0: the average forgets what it started from."""
    return (1 - 1 / step) ** (gamma + 1)


def inner_product(step_a: npt.ArrayLike, gamma_a: npt.ArrayLike, step_b: npt.ArrayLike, gamma_b: npt.ArrayLike) -> Any:
    """Eq. 151: the integral of the product of two profiles over time, in 1 / step; float64, broadcast.

    The powers of both steps are joined into one of their ratio, earlier by later, which underflows but never overflows.
    """
    t_a, t_b = np.asarray(step_a, dtype=np.float64), np.asarray(step_b, dtype=np.float64)
    g_a, g_b = np.asarray(gamma_a, dtype=np.float64), np.asarray(gamma_b, dtype=np.float64)
    later = np.maximum(t_a, t_b)
    ratio = (np.minimum(t_a, t_b) / later) ** np.where(t_a < t_b, g_b, g_a)
    return (g_a + 1) * (g_b + 1) / (g_a + g_b + 1) * ratio / later


def coefficients(steps: npt.ArrayLike, widths: npt.ArrayLike, step: float, width: float) -> np.ndarray:
    """The combination of snapshots [n] (their `steps` and `widths` [n]) that comes nearest to the profile of `width` at `step`.

    Algorithm 3: least squares between profiles, float64 [n]. The sum is held at 1 in the fit, so that the weights keep their
    scale; edm2 divides by the sum afterwards, which is the same for many snapshots and fits worse for few.
    LinAlgError (a ValueError) where a snapshot is given twice.
    """
    gram, overlap, _ = _products(steps, widths, step, width)
    free, ones = np.linalg.solve(gram, np.stack([overlap, np.ones_like(overlap)], 1)).T
    return free + ones * (1 - free.sum()) / ones.sum()  # Lagrange's multiplier of the sum


def misfit(steps: npt.ArrayLike, widths: npt.ArrayLike, step: float, width: float) -> float:
    """How far the profile that `coefficients` reaches is from the wanted one: the L2 distance, relative to the wanted one's norm.

    From 0, resolved to 1e-7. Near 1 the snapshots say nothing about this width.
    """
    gram, overlap, norm = _products(steps, widths, step, width)
    x = coefficients(steps, widths, step, width)
    return float(np.sqrt(max(0.0, (x @ gram @ x - 2 * overlap @ x) / norm + 1)))


def _products(steps: npt.ArrayLike, widths: npt.ArrayLike, step: float, width: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Inner products of the snapshots with each other [n, n], with the wanted profile [n], and of that with itself."""
    t, gammas, gamma = np.asarray(steps), exponent(widths), exponent(width)
    gram = inner_product(t[:, None], gammas[:, None], t, gammas)
    return gram, inner_product(t, gammas, step, gamma), float(inner_product(step, gamma, step, gamma))


class PowerEMA(lightning.Callback):
    """Averages of the LightningModule's `trained` network during training, one for each of `widths`, and their snapshots.

    Every floating entry of its state_dict is averaged in float32 on its own device, after every optimizer step. Every
    `every` steps (0: never) and at the end rank zero writes `<folder>/<step>-<width>.safetensors`, as float16 like edm2 (a value
    rounds by at most 5e-4 of itself); other entries (counters) are written as they stand.
    The averages are part of Lightning's checkpoint, so a resumed run goes on with the same bits; a callback that saves checkpoints
    comes after this one, as ModelCheckpoint always does.
    ValueError for widths outside (0, 1/sqrt(12)), twice the same, or with more than the three decimals of a file name.
    """

    def __init__(self, widths: Sequence[float], every: int, folder: Path) -> None:
        if not widths or len({f"{w:.3f}" for w in widths}) < len(widths) or any(float(f"{w:.3f}") != w for w in widths):
            raise ValueError(f"Averages need different widths with at most three decimals, not {list(widths)}.")
        self.gammas = {float(w): float(exponent(w)) for w in widths}
        self.every, self.folder = every, Path(folder)
        self.step = 0  # of the last update
        self.averages: dict[float, dict[str, Tensor]] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "averages": self.averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.averages = state["step"], state["averages"]

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
            raise UserError("Averages need the whole weights on every device; choose trainer.strategy=ddp or scale.ema.widths=[].")

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Starts the averages, or checks and moves those of a checkpoint. UserError where they do not belong to this training.

        Snapshots of later steps are removed: an earlier attempt got further, and this one will write its own.
        """
        weights = _floating(module.trained)
        if not trainer.global_step:
            self.step = 0
            self.averages = {w: {k: v.to(torch.float32, copy=True) for k, v in weights.items()} for w in self.gammas}
        shapes = {k: v.shape for k, v in weights.items()}
        kept = [{k: v.shape for k, v in average.items()} for average in self.averages.values()]
        if self.step != trainer.global_step or self.averages.keys() != self.gammas.keys() or any(k != shapes for k in kept):
            raise UserError(
                f"The checkpoint of step {trainer.global_step} lacks the averages of widths {sorted(self.gammas)} of this network; "
                "start the run anew, or continue it with the settings that it had."
            )
        self.averages = {w: {k: a[k].to(weights[k].device) for k in weights} for w, a in self.averages.items()}
        if trainer.is_global_zero:
            for step, _, path in snapshots(self.folder):
                if step > self.step:
                    path.unlink()

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step == self.step:  # a micro-batch: gradients accumulate
            return
        self.step = trainer.global_step
        weights = [v.float() for v in _floating(module.trained).values()]
        for width, average in self.averages.items():
            torch._foreach_lerp_(list(average.values()), weights, 1 - decay(self.step, self.gammas[width]))
        if self.every and self.step % self.every == 0:
            self._write(trainer, module)

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Comes also where a run was killed after its last checkpoint and nothing is left to train, unlike on_train_end."""
        if not self.every or self.step % self.every:
            self._write(trainer, module)

    def _write(self, trainer: Any, module: Any) -> None:
        if not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for width, average in self.averages.items():
            _write_snapshot(self.folder / f"{self.step:08d}-{width:.3f}.safetensors", {**module.trained.state_dict(), **average})


def _floating(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that can be averaged, detached but not copied."""
    return {k: v for k, v in module.state_dict().items() if v.is_floating_point()}


def _write_snapshot(path: Path, weights: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    halves = {k: (v.half() if v.is_floating_point() else v).cpu().contiguous() for k, v in weights.items()}
    data = save(halves)
    write_atomically(path, lambda f: f.write(data))


def snapshots(folder: Path) -> list[tuple[int, float, Path]]:
    """(step, width, file) of every snapshot in a folder, by step and width; none where there is no folder."""
    names = ((re.fullmatch(r"(\d{8,})-(0\.\d{3})\.safetensors", path.name), path) for path in Path(folder).glob("*.safetensors"))
    return sorted((int(name[1]), float(name[2]), path) for name, path in names if name)


def reconstruct(folder: Path, width: float, step: int | None = None) -> dict[str, Tensor]:
    """The average of any `width` at the `step` of a snapshot (None: the last), as a float32 state_dict of the colorizer.

    A width that was tracked is its snapshot. Otherwise reads the snapshots up to `step` one after the other; memory holds the sum
    and one of them. There must be one at `step`: the profile is highest at its end, and midway between snapshots the fit misses
    10 % of it (250 a width) to all of it (8 a width).
    Warns where the snapshots are too few for the width (`misfit` above 0.1).
    UserError: a width outside (0, 1/sqrt(12)), no snapshots, none at `step`, one that is damaged or of another network.
    """
    if not 0 < width < WIDEST:
        raise UserError(f"The relative width of an average lies between 0 and {WIDEST:.4f}, not at {width}.")
    found = snapshots(folder)
    if not found:
        raise UserError(f"{folder} holds no snapshots of averages; train with averages first.")
    at = sorted({s for s, _, _ in found})
    step = at[-1] if step is None else step
    if step not in at:
        near = sorted(sorted(at, key=lambda s: abs(s - step))[:2])
        raise UserError(f"{folder} has no snapshot at step {step}; the nearest are at {' and '.join(map(str, near))}.")
    tracked = [snapshot for snapshot in found if snapshot[:2] == (step, width)]
    used = tracked or [snapshot for snapshot in found if snapshot[0] <= step]
    profile = [s for s, _, _ in used], [w for _, w, _ in used], step, width
    if (miss := misfit(*profile)) > 0.1:
        warnings.warn(f"{len(used)} snapshots are too few for an average of width {width}: {miss:.0%} off.", stacklevel=2)
    total: dict[str, Tensor] = {}
    for share, (_, _, path) in zip(coefficients(*profile), used, strict=True):
        _add(total, path, float(share))
    return total


def _add(total: dict[str, Tensor], path: Path, share: float) -> None:
    """Adds `share` of a snapshot to `total`, in float32; entries that are not averaged are replaced. UserError names the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a snapshot ({error}).") from None
    if total and {k: v.shape for k, v in total.items()} != {k: v.shape for k, v in weights.items()}:
        raise UserError(f"{path} is of another network than the snapshots before it; move it away.")
    for name, value in weights.items():
        if not value.is_floating_point():
            total[name] = value
        elif name in total:
            total[name].add_(value.float(), alpha=share)
        else:
            total[name] = value.float() * share
