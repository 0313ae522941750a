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


def initial_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """One drawing, one seed: the noise of a drawing does not depend on the batch that it is in. float32 [B, *shape]."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


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
) -> Tensor:
    """Latents [B, C, h, w] for sketches [B, 3, H, W] (-1 = no line) and CLIP tokens [B, 1 + n, D] of the references.

    `factor` is the VAE's. The passes of a step are one batch: with one scale active two, with both three; GS = SGS = 1 costs one.
    """
    solver = scheduler(sigmas, steps, colorizer.prediction)
    count, device = len(sketch), sketch.device
    shape = (latent_channels, sketch.shape[-2] // factor, sketch.shape[-1] // factor)
    z = initial_noise(seeds, shape).to(device, sketch.dtype) * solver.init_noise_sigma
    used = colorizer.used(tokens)
    features = colorizer.features(sketch)
    passes = [(used, features)]
    if gs != 1:
        passes.append((torch.zeros_like(used), features))
    if sgs != 1:
        passes.append((used, colorizer.features(torch.full_like(sketch, -1))))
    context = torch.cat([p[0] for p in passes])
    maps = [_layout(torch.cat(level)) for level in zip(*(p[1] for p in passes), strict=True)]
    for t in solver.timesteps:
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
