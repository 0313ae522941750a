"""The sampler loop on a model with a known answer, and one drawing, one seed."""

import pytest
import torch

from src.config import compose, plain
from src.model.colorizer import Colorizer
from src.sampling.sampler import generators, is_noised, noise, sample, scheduler

NETWORK = plain(compose().backbone.unet)


class PointMass(torch.nn.Module):
    """The exact noise prediction when all data is one latent: the sampler must land on it."""

    kind, prediction = "attention", "epsilon"

    def __init__(self, target: torch.Tensor) -> None:
        super().__init__()
        self.target, self.calls = target, []
        self.alphas = scheduler("vp", 20).alphas_cumprod

    def used(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens

    def features(self, sketch: torch.Tensor) -> list[torch.Tensor]:
        return [sketch]

    def forward(self, z: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor, features: list[torch.Tensor]) -> torch.Tensor:
        self.calls.append(len(z))
        a = torch.tensor([float(torch.lerp(self.alphas[int(x)], self.alphas[min(int(x) + 1, 999)], float(x) % 1)) for x in t])
        a = a.view(-1, 1, 1, 1)
        return (z - a.sqrt() * self.target) / (1 - a).sqrt()


@pytest.mark.parametrize("sigmas", ["vp", "karras"])
def test_a_point_mass_is_reached(sigmas: str) -> None:
    target = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    model = PointMass(target)
    out = sample(
        model, torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 4), [1, 2], latent_channels=4, factor=4, sigmas=sigmas, steps=20
    )
    assert (out - target).abs().max() < 0.05
    assert model.calls == [2] * 20


@pytest.mark.parametrize(("gs", "sgs", "passes"), [(1, 1, 1), (3, 1, 2), (1, 3, 2), (3, 3, 3)])
def test_passes_are_one_batch(gs: float, sgs: float, passes: int) -> None:
    model = PointMass(torch.zeros(1, 4, 8, 8))
    sample(model, torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 4), [0], latent_channels=4, factor=4, steps=3, gs=gs, sgs=sgs)
    assert model.calls == [passes] * 3


def test_a_drawing_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    colorizer = Colorizer(NETWORK, "attention").eval()
    sketch, tokens = torch.rand(3, 3, 64, 64) * 2 - 1, torch.randn(3, 65, 128)
    options = {"latent_channels": 4, "factor": 4, "steps": 4, "gs": 2.0}
    together = sample(colorizer, sketch, tokens, [5, 6, 7], **options)
    alone = sample(colorizer, sketch[1:2], tokens[1:2], [6], **options)
    assert torch.allclose(together[1:2], alone, atol=1e-4)
    assert torch.equal(noise(generators([6]), (4, 2, 2))[0], noise(generators([5, 6]), (4, 2, 2))[1])


@pytest.mark.parametrize(("level", "noised"), [(0, []), (0.3, [0, 1, 2]), (1, list(range(10)))])
def test_noisy_sampling_noises_the_first_steps(level: float, noised: list[int]) -> None:
    assert [step for step in range(10) if is_noised(step, 10, level)] == noised


def test_noisy_sampling_adds_the_latents_noise_to_tokens_that_are_there() -> None:
    seen: list[torch.Tensor] = []

    class Watched(PointMass):
        def forward(self, z: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor, features: list[torch.Tensor]) -> torch.Tensor:
            seen.append(tokens)
            return super().forward(z, t, tokens, features)

    tokens = torch.cat([torch.full((1, 400, 8), 3.0), torch.zeros(1, 400, 8)])
    sketch = torch.zeros(2, 3, 32, 32)
    options = {"latent_channels": 4, "factor": 4, "steps": 5, "gs": 3.0, "noise_level": 0.5}
    sample(Watched(torch.zeros(1, 4, 8, 8)), sketch, tokens, [0, 1], **options)
    sigmas = scheduler("vp", 5).sigmas
    for step, context in enumerate(seen):
        alpha = float(1 / (1 + sigmas[step] ** 2) ** 0.5) if step < 3 else 1.0
        beta = float(sigmas[step]) * alpha if step < 3 else 0.0
        assert context[0].mean().item() == pytest.approx(3 * alpha, abs=0.06)
        assert context[0].std().item() == pytest.approx(beta, abs=0.05)
        assert not context[1:].any()  # a reference of zeros, and both negatives of guidance
    assert not torch.equal(seen[0][0], seen[1][0])


def test_a_noise_level_that_cannot_be() -> None:
    options = {"latent_channels": 4, "factor": 4}
    with pytest.raises(ValueError, match="must be 0 to 1"):
        sample(PointMass(torch.zeros(1, 4, 8, 8)), torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 4), [0], **options, noise_level=2)
    with pytest.raises(ValueError, match="CLS models have none"):
        sample(Colorizer(NETWORK, "cls"), torch.zeros(1, 3, 64, 64), torch.zeros(1, 65, 128), [0], **options, noise_level=0.5)


def test_unknown_sigmas() -> None:
    with pytest.raises(ValueError, match="must be one of vp, karras"):
        scheduler("cosine", 5)
