"""DPM-Solver++ (second order, multistep) through diffusers' scheduler, with the paper's dual guidance."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from src.model.colorizer import Colorizer
from src.model.diffusion import T
from src.sampling.guidance import combine

# Table 1 uses VP sigmas, Table 2 Karras sigmas.
SIGMAS: dict[str, dict[str, Any]] = {
    "vp": {"timestep_spacing": "linspace", "final_sigmas_type": "zero", "lower_order_final": True},
    "karras": {"use_karras_sigmas": True, "final_sigmas_type": "zero", "lower_order_final": True},
}


def scheduler(sigmas: str, steps: int, prediction: str = "epsilon") -> Any:
    """diffusers' DPM-Solver++ 2M on Stable Diffusion's schedule for a network that predicts `epsilon` or `v`.

    ValueError for unknown sigmas.
    """
    from diffusers import DPMSolverMultistepScheduler

    if sigmas not in SIGMAS:
        raise ValueError(f"sampler.sigmas is {sigmas!r}; it must be one of {', '.join(SIGMAS)}.")
    solver = DPMSolverMultistepScheduler(
        num_train_timesteps=T,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type={"epsilon": "epsilon", "v": "v_prediction"}[prediction],
        **SIGMAS[sigmas],
    )
    solver.set_timesteps(steps)
    return solver


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One drawing, one seed, one generator: a drawing's noise depends neither on the batch that it is in nor on the device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def noise(sources: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Normal numbers float32 [B, *shape], each drawing's from its own generator."""
    return torch.stack([torch.randn(shape, generator=source) for source in sources])


def is_noised(step: int, steps: int, noise_level: float) -> bool:
    """Whether noisy sampling (Eq. 14) noises the tokens at `step` (0 is the noisiest) of `steps`. Level 0 = never, 1 = always."""
    return 1 - (steps - step) / (steps + 0.0001) < noise_level


@torch.inference_mode()
def sample(
    colorizer: Colorizer,
    sketch: Tensor,
    tokens: Tensor,
    seeds: Sequence[int],
    *,
    latent_channels: int,
    factor: int,
    sigmas: str = "vp",
    steps: int = 20,
    gs: float = 1.0,
    sgs: float = 1.0,
    noise_level: float = 0.0,
) -> Tensor:
    """Latents [B, C, h, w] for sketches [B, 3, H, W] (-1 = no line) and CLIP tokens [B, 1 + n, D] of the references.

    `factor` is the VAE's. The passes of a step are one batch: with one scale active two, with both three; GS = SGS = 1 costs one.
    noise_level: noisy sampling (Eq. 14), 0 to 1: the share of the steps, from the noisiest on, at which the tokens are noised as
    strongly as the latent, with noise that is fresh at each step and shared by its passes; tokens of zero stay zero. ValueError
    outside 0 to 1, and for a CLS model, which has no local tokens.
    """
    if not 0 <= noise_level <= 1:
        raise ValueError(f"noise_level is {noise_level}; it must be 0 to 1.")
    if noise_level and colorizer.kind == "cls":
        raise ValueError("noise_level is for local tokens, and CLS models have none: leave it at 0.")
    solver = scheduler(sigmas, steps, colorizer.prediction)
    count, device = len(sketch), sketch.device
    shape = (latent_channels, sketch.shape[-2] // factor, sketch.shape[-1] // factor)
    sources = generators(seeds)
    z = noise(sources, shape).to(device, sketch.dtype) * solver.init_noise_sigma
    used = colorizer.used(tokens)
    features = colorizer.features(sketch)
    passes = [(1, features)]  # how much of the tokens, and the sketch
    if gs != 1:
        passes.append((0, features))
    if sgs != 1:
        passes.append((1, colorizer.features(torch.full_like(sketch, -1))))
    maps = [_layout(torch.cat(level)) for level in zip(*(p[1] for p in passes), strict=True)]
    for step, t in enumerate(solver.timesteps):
        seen = used
        if is_noised(step, steps, noise_level):
            alpha = 1 / (1 + solver.sigmas[step] ** 2) ** 0.5
            fresh = noise(sources, tuple(used.shape[1:])).to(used)
            present = (used != 0).flatten(1).any(1).view(-1, 1, 1)
            seen = torch.where(present, float(alpha) * used + float(alpha * solver.sigmas[step]) * fresh, used)
        context = torch.cat([seen * share for share, _ in passes])
        z_in = _layout(solver.scale_model_input(z, t).repeat(len(passes), 1, 1, 1))
        predictions = list(colorizer(z_in, t.to(device).expand(len(z_in)), context, maps).split(count))
        cond = predictions.pop(0)
        uncond_reference = predictions.pop(0) if gs != 1 else None
        uncond_sketch = predictions.pop(0) if sgs != 1 else None
        z = solver.step(combine(cond, uncond_reference, uncond_sketch, gs, sgs), t, z).prev_sample
    return z


def _layout(x: Tensor) -> Tensor:
    """Convolutions on a CPU are half as fast again with channels last."""
    return x.contiguous(memory_format=torch.channels_last)
