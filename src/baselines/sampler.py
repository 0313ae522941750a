"""Sampling a text-to-image base with adapters. Every network is diffusers'; the loop is ours, so that a drawing's noise depends on
its seed alone, as it does for our models.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src.baselines.base import Base, Text
from src.baselines.reference_only import Chain, adain_layers
from src.sampling.sampler import generators, noise
from src.sampling.solvers import is_stochastic, solver_of


@dataclass(frozen=True)
class Control:
    """A ControlNet, what it is shown, [B, 3, H, W] in its own range, and how much of its residuals is added."""

    network: Any
    condition: Tensor
    scale: float = 1.0


@dataclass(frozen=True)
class Reference:
    """What Reference-only looks at: latents [B, C, h, w] of the references. attention: whether self-attentions do; adain: the
    blocks whose layers take the reference's mean and deviation (`layers_of`); fidelity: see `Chain`.
    """

    latents: Tensor
    attention: bool = True
    adain: Sequence[str] = ()
    fidelity: float = 0.5


@torch.inference_mode()
def sample(
    base: Base,
    positive: Text,
    negative: Text,
    seeds: Sequence[int],
    *,
    size: tuple[int, int],
    gs: float,
    solver: str = "dpmpp_2m",
    sigmas: str = "karras",
    final: str = "zero",
    steps: int = 20,
    controls: Sequence[Control] = (),
    features: Sequence[Tensor] = (),
    image: Tensor | None = None,
    reference: Reference | None = None,
    progress: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Latents float32 [B, C, h, w] of pictures of `size` (height, width) for prompts [B].

    gs: classifier-free guidance, from the negative prompt (and no image) to the positive one; 1 = none, which costs one pass.
    features: of a T2I-Adapter, scaled. image: embeddings [B, D] for the IP-Adapter that the base's U-Net has.
    progress: called after each step with the number of steps done and the present estimate of the result; an exception of it ends
    the sampling.
    """
    unet, count, passes = base.unet, len(seeds), 2 if gs != 1 else 1
    weight = next(unet.parameters())
    solve = solver_of(solver, sigmas, steps, final, base.prediction)
    shape = (base.channels, size[0] // base.factor, size[1] // base.factor)
    sources = generators(seeds)
    z = noise(sources, shape).to(weight.device) * solve.init_noise_sigma
    chain = Chain(passes * count, (passes - 1) * count, reference.fidelity) if reference else None
    times = 2 if chain else 1  # the reference's rows have the picture's prompts

    def joined(with_negative: Tensor, with_positive: Tensor) -> Tensor:
        both = torch.cat([with_negative, with_positive] if passes == 2 else [with_positive])
        return both.repeat(times, *(1,) * (both.ndim - 1)).to(weight.device, weight.dtype)

    text = Text(
        joined(negative.context, positive.context),
        {key: joined(negative.added[key], value) for key, value in positive.added.items()},
    )
    added: dict[str, Any] = dict(text.added)
    if image is not None:
        added["image_embeds"] = [joined(torch.zeros_like(image), image)[:, None]]
    shown = [_repeated(control.condition, passes).to(weight) for control in controls]
    adapted = [_repeated(level, passes).to(weight) for level in features]
    told = {"chain": chain} if chain and reference and reference.attention else None

    for step, t in enumerate(solve.timesteps):
        sigma = float(solve.sigmas[step])
        alpha = (1 + sigma**2) ** -0.5
        beta = sigma * alpha
        scaled = solve.scale_model_input(z, t)
        inputs = _repeated(scaled, passes)
        if chain and reference:
            noised = alpha * reference.latents.to(z) + beta * noise(sources, shape).to(z)
            inputs = torch.cat([inputs, _repeated(noised, passes)])
        inputs = inputs.to(weight.dtype)
        more = _controlled(controls, shown, inputs[: passes * count], t, text, passes * count) if controls else {}
        if adapted:
            more["down_intrablock_additional_residuals"] = [level.clone() for level in adapted]
        if chain:
            more = {key: _padded(value, chain.rows) for key, value in more.items()}
        with adain_layers(unet, chain, reference.adain) if chain and reference else nullcontext():
            output = unet(
                inputs, t, text.context,
                added_cond_kwargs=added or None, cross_attention_kwargs=told, return_dict=False, **more,
            )[0]  # fmt: skip
        predictions = output[: passes * count].float().split(count)
        guided = predictions[0] + gs * (predictions[1] - predictions[0]) if passes == 2 else predictions[0]
        fresh = {"variance_noise": noise(sources, shape).to(z)} if is_stochastic(solver) else {}
        z = solve.step(guided, t, z, **fresh).prev_sample
        if progress:
            clean = alpha * scaled - beta * guided if base.prediction == "v" else (scaled - beta * guided) / alpha
            progress(step + 1, clean)
    return z


def _repeated(x: Tensor, times: int) -> Tensor:
    return x.repeat(times, *(1,) * (x.ndim - 1)) if times > 1 else x


def _controlled(
    controls: Sequence[Control], shown: Sequence[Tensor], inputs: Tensor, t: Tensor, text: Text, rows: int
) -> dict[str, Any]:
    """The residuals of all ControlNets, summed, by the names of the U-Net's arguments."""
    down: list[Tensor] = []
    mid: Tensor | None = None
    for control, condition in zip(controls, shown, strict=True):
        one, middle = control.network(
            inputs, t, text.context[:rows], condition,
            conditioning_scale=control.scale,
            added_cond_kwargs={key: value[:rows] for key, value in text.added.items()} or None,
            return_dict=False,
        )  # fmt: skip
        down = [a + b for a, b in zip(down, one, strict=True)] if down else list(one)
        mid = middle if mid is None else mid + middle
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}


def _padded(value: Any, rows: int) -> Any:
    """Residuals with as many rows of zeros after them: the reference is denoised without adapters."""
    if isinstance(value, list):
        return [_padded(level, rows) for level in value]
    return torch.cat([value, torch.zeros_like(value[:1]).expand(rows, *value.shape[1:])])
