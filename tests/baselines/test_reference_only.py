"""Reference-only against a second implementation, in two passes as diffusers' community pipeline does it: the first over the noised
reference remembers, the second over the picture reads.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor

from src.baselines import adapters
from src.baselines.base import Base
from src.baselines.reference_only import ReferenceAttention
from src.baselines.sampler import Control, Reference, sample
from src.sampling.sampler import generators, noise
from src.sampling.solvers import solver_of
from tests.baselines.small import load

INNER = {"sd": ("down.2", "down.3", "middle", "up.0", "up.1", "up.2"), "sdxl": ("down.2", "middle", "up.0", "up.1")}
SEEDS, STEPS, SHAPE = [3, 4], 3, (4, 8, 8)
PROMPTS, NEGATIVES = ["a red hat", "a blue sea"], ["bad", "bad, a girl"]


class TwoPasses:
    """A U-Net whose layers remember in the pass over the reference, and use it in that over the picture."""

    def __init__(self, unet: Any, unguided: int, attention: bool, adain: bool, fidelity: float) -> None:
        self.unet, self.unguided, self.fidelity, self.reading = unet, unguided, fidelity, False
        self.bank: dict[Any, Any] = {}
        if attention:
            for block in unet.modules():
                if isinstance(block, BasicTransformerBlock):
                    self.wrap_attention(block.attn1)
        if adain:
            self.wrap_output(unet.mid_block)
            count = len(unet.down_blocks)
            weighted = [(2 * (1 - i / count), block) for i, block in enumerate(unet.down_blocks)]
            weighted += [(2 * i / count, block) for i, block in enumerate(unet.up_blocks)]
            for weight, block in weighted:
                for layer in getattr(block, "attentions", block.resnets):
                    if weight <= 1:  # of the pipeline's
                        self.wrap_output(layer)

    def faithful(self, plain: Tensor, styled: Tensor) -> Tensor:
        mixed = styled.clone()
        mixed[: self.unguided] = self.fidelity * plain[: self.unguided] + (1 - self.fidelity) * styled[: self.unguided]
        return mixed

    def wrap_attention(self, attention: Any) -> None:
        plain = attention.forward

        def forward(states: Tensor, *_: Any, **__: Any) -> Tensor:
            if not self.reading:
                self.bank[attention] = states
                return plain(states)
            return self.faithful(plain(states), plain(states, torch.cat([states, self.bank[attention]], 1)))

        attention.forward = forward

    def wrap_output(self, layer: Any) -> None:
        plain = layer.forward

        def forward(*arguments: Any, **named: Any) -> Any:
            output = plain(*arguments, **named)
            states = output[0] if isinstance(output, tuple) else output
            variance, mean = torch.var_mean(states, (2, 3), unbiased=False, keepdim=True)
            deviation = variance.clamp(min=1e-6).sqrt()
            if not self.reading:
                self.bank[layer] = (deviation, mean)
                return output
            to_deviation, to_mean = self.bank[layer]
            changed = self.faithful(states, (states - mean) / deviation * to_deviation + to_mean)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        layer.forward = forward

    def __call__(self, picture: Tensor, reference: Tensor, t: Tensor, context: Tensor, added: Any, more: dict[str, Any]) -> Tensor:
        self.reading = False
        self.unet(reference, t, context, added_cond_kwargs=added)
        self.reading = True
        return self.unet(picture, t, context, added_cond_kwargs=added, **more).sample


@torch.no_grad()
def second(base: Base, latents: Tensor, gs: float, control: Control | None, solver: str, **how: Any) -> Tensor:
    negative, positive = base.texts(NEGATIVES), base.texts(PROMPTS)
    halves = [negative, positive] if gs != 1 else [positive]
    context = torch.cat([text.context for text in halves])
    added = {key: torch.cat([text.added[key] for text in halves]) for key in positive.added}
    network = TwoPasses(base.unet, len(context) - 2, **how)
    scheduler, sources = solver_of(solver, "karras", STEPS), generators(SEEDS)
    z = noise(sources, SHAPE) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        picture = scheduler.scale_model_input(torch.cat([z] * len(halves)), t)
        noised = scheduler.add_noise(latents, noise(sources, SHAPE), t[None])
        reference = torch.cat([scheduler.scale_model_input(noised, t)] * len(halves))
        more: dict[str, Any] = {}
        if control:
            shown = torch.cat([control.condition] * len(halves))
            residuals = control.network(picture, t, context, shown, conditioning_scale=control.scale, added_cond_kwargs=added)
            more["down_block_additional_residuals"] = residuals.down_block_res_samples
            more["mid_block_additional_residual"] = residuals.mid_block_res_sample
        predicted = network(picture, reference, t, context, added, more).chunk(len(halves))
        guided = predicted[0] + gs * (predicted[-1] - predicted[0]) if len(halves) == 2 else predicted[0]
        z = scheduler.step(guided, t, z).prev_sample
    return z


@pytest.mark.parametrize(
    ("name", "attention", "adain", "fidelity", "gs", "solver"),
    [
        ("sd", True, False, 0.5, 3, "dpmpp_2m"),
        ("sd", False, True, 0.2, 3, "euler"),
        ("sd", True, True, 0.5, 1, "dpmpp_2m"),
        ("sdxl", True, True, 0.7, 3, "dpmpp_2m"),
    ],
)
def test_as_in_two_passes(mirror: Path, name: str, attention: bool, adain: bool, fidelity: float, gs: float, solver: str) -> None:
    latents = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    condition = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    control = Control(adapters.load_folder("ControlNetModel", mirror / f"someone/{name}-control"), condition, 0.8)
    expected = second(
        load(mirror, name), latents, gs, control, solver, attention=attention, adain=adain, fidelity=fidelity
    )  # fmt: skip
    base = load(mirror, name)
    plain = dict(base.unet.attn_processors)
    base.unet.set_attn_processor(ReferenceAttention())

    def ours(**reference: Any) -> Tensor:
        texts = base.texts(PROMPTS), base.texts(NEGATIVES)
        return sample(base, *texts, SEEDS, size=(64, 64), gs=gs, steps=STEPS, solver=solver, controls=[control], **reference)

    result = ours(reference=Reference(latents, attention, INNER[name] if adain else (), fidelity))
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)
    without = ours()
    assert (result - without).abs().amax((1, 2, 3)).min() > 0.1
    base.unet.set_attn_processor(plain)
    torch.testing.assert_close(without, ours(), atol=1e-4, rtol=0)
