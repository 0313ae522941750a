"""The sampler loop: a solver, the paper's dual guidance and noisy sampling, attention injection and AdaIN."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from src.model.attention import Call, Kept, adain
from src.model.colorizer import Colorizer
from src.sampling.guidance import combine
from src.sampling.solvers import is_stochastic, solver_of
from src.sampling.style import FINAL, Style

SKETCH_NEGATIVES = ("empty", "zero_features")


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One drawing, one seed, one generator: a drawing's noise depends neither on the batch that it is in nor on the device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def noise(sources: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Normal numbers float32 [B, *shape], each drawing's from its own generator."""
    return torch.stack([torch.randn(tuple(shape), generator=source) for source in sources])


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
    solver: str = "dpmpp_2m",
    sigmas: str = "vp",
    final: str = "zero",
    steps: int = 20,
    gs: float = 1.0,
    sgs: float = 1.0,
    guidance: tuple[float, float] = (0.0, 1.0),
    sketch_negative: str = "empty",
    control_scale: float = 1.0,
    noise_level: float = 0.0,
    strength: float | Sequence[float] = 1.0,
    start: Tensor | None = None,
    start_strength: float = 1.0,
    style: Style | None = None,
    progress: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Latents float32 [B, C, h, w] for sketches [B, 3, H, W] (-1 = no line) and CLIP tokens [B, 1 + n, D] of the references.

    Sides of the sketches are multiples of what VAE and U-Net halve down; they need not be those of the training. `factor` is the
    VAE's. A drawing's result depends on its seed, and not on the batch. The passes of a step are one batch: GS = SGS = 1 costs
    one, an active scale one more each, a style one more.

    solver, sigmas, final, steps: see `solver_of`.
    guidance: shares of the steps, from the noisiest on, between which gs and sgs are active.
    sketch_negative: `empty`, an empty sketch, or `zero_features`, zero in place of the sketch encoder's features.
    control_scale: a factor of the sketch encoder's features in every pass over these sketches, the empty one's too, as ControlNet
    scales its residuals (paper, Figure 17); 1 as trained. A style's own pass, which has another sketch, is left alone.
    noise_level: noisy sampling (Eq. 14), 0 to 1: the share of the steps, from the noisiest on, at which the tokens are noised as
    strongly as the latent, with noise that is fresh at each step and shared by its passes; tokens of zero stay zero.
    strength: of the reference, see `reference_states`.
    start: latents [B, C, h, w] to start from instead of pure noise, noised to `start_strength`, in (0, 1]: the share of the steps
    that is run (SDEdit, Meng et al. 2022).
    progress: called after each step with the number of steps done and the present estimate of the result [B, C, h, w]; an exception
    of it ends the sampling.
    ValueError: a value outside its range, or noise_level for a CLS model, which has no local tokens.
    """
    _check(colorizer, guidance, sketch_negative, noise_level, start_strength, style)
    solve = solver_of(solver, sigmas, steps, final, colorizer.prediction)
    weight = next(colorizer.parameters())
    cast = functools.partial(torch.Tensor.to, device=weight.device, dtype=weight.dtype)
    count = len(sketch)
    shape = (latent_channels, sketch.shape[-2] // factor, sketch.shape[-1] // factor)
    sources = generators(seeds)
    first = steps - max(1, round(start_strength * steps)) if start is not None else 0
    z = noise(sources, shape).to(weight.device)
    solve.set_begin_index(first)
    z = z * solve.init_noise_sigma if start is None else solve.add_noise(start.to(z), z, solve.timesteps[[first]].repeat(count))

    used = cast(colorizer.used(tokens))
    reference = colorizer.reference(used, strength)
    lines = colorizer.features(cast(sketch), control_scale)
    empty = _negative(colorizer, cast(sketch[:1]), lines, sketch_negative, control_scale) if sgs != 1 else []
    chain = colorizer.features(cast(style.sketch)) if style else []

    @functools.cache
    def features(*maps: str) -> list[Tensor]:
        parts = {"lines": lines, "empty": empty, "chain": chain}
        return [_layout(torch.cat(level)) for level in zip(*(parts[name] for name in maps), strict=True)]

    for step, t in enumerate(solve.timesteps[first:], first):
        sigma = float(solve.sigmas[step])
        alpha = (1 + sigma**2) ** -0.5
        beta = sigma * alpha
        active = guidance[0] <= step / steps < guidance[1]
        scale, sketch_scale = (gs, sgs) if active else (1.0, 1.0)
        chained = style if style and style.in_network and step >= style.begin * steps else None
        seen = reference
        if is_noised(step, steps, noise_level):
            fresh = cast(noise(sources, used.shape[1:]))
            present = (used != 0).flatten(1).any(1).view(-1, 1, 1)
            seen = colorizer.reference(torch.where(present, alpha * used + beta * fresh, used), strength)
        scaled = solve.scale_model_input(z, t)
        passes = {"lines": scaled}
        if sketch_scale != 1:
            passes["empty"] = scaled
        if chained:
            passes["chain"] = alpha * chained.latent.to(z) + beta * noise(sources, shape).to(z)
        inputs = _layout(cast(torch.cat(list(passes.values()))))
        call = _call(seen, count if scale != 1 else 0, chained, count)
        output = colorizer(inputs, t.to(inputs.device).view(1), None, features(*passes), call=call).float()
        predictions = output.split(count)
        uncond_reference = predictions[-1] if scale != 1 else None
        uncond_sketch = predictions[1] if sketch_scale != 1 else None
        guided = combine(predictions[0], uncond_reference, uncond_sketch, scale, sketch_scale)
        more = {"variance_noise": noise(sources, shape).to(z)} if is_stochastic(solver) else {}
        z = solve.step(guided, t, z, **more).prev_sample
        if progress:
            clean = alpha * scaled - beta * guided if colorizer.prediction == "v" else (scaled - beta * guided) / alpha
            progress(step + 1 - first, clean)
    return adain(z, style.latent.to(z)) if style and FINAL in style.adain else z


def _call(reference: Sequence[Kept], absent: int, style: Style | None, count: int) -> Call:
    if style is None:
        return Call(reference, absent)
    return Call(reference, absent, count, style.injection, frozenset(style.adain), style.fidelity)


def _check(
    colorizer: Colorizer,
    guidance: tuple[float, float],
    sketch_negative: str,
    noise_level: float,
    start_strength: float,
    style: Style | None,
) -> None:
    if not 0 <= guidance[0] <= guidance[1] <= 1:
        raise ValueError(f"guidance is {list(guidance)}; it must be two shares of the steps, 0 <= start <= end <= 1.")
    if sketch_negative not in SKETCH_NEGATIVES:
        raise ValueError(f"sketch_negative is {sketch_negative!r}; it must be one of {', '.join(SKETCH_NEGATIVES)}.")
    if not 0 <= noise_level <= 1:
        raise ValueError(f"noise_level is {noise_level}; it must be 0 to 1.")
    if noise_level and colorizer.kind == "cls":
        raise ValueError("noise_level is for local tokens, and CLS models have none: leave it at 0.")
    if not 0 < start_strength <= 1:
        raise ValueError(f"start_strength is {start_strength}; it must be above 0, and at most 1.")
    if style:
        unet: Any = colorizer.unet
        style.check(len(unet.down_blocks))


def _negative(colorizer: Colorizer, sketch: Tensor, lines: Sequence[Tensor], kind: str, control_scale: float) -> list[Tensor]:
    """Features of the sketch's negative, as many as there are of the sketches."""
    if kind == "zero_features":
        return [torch.zeros_like(level) for level in lines]
    one = colorizer.features(torch.full_like(sketch, -1), control_scale)
    return [level.expand_as(like) for level, like in zip(one, lines, strict=True)]


def _layout(x: Tensor) -> Tensor:
    """Convolutions on a CPU are half as fast again with channels last."""
    return x.contiguous(memory_format=torch.channels_last)
