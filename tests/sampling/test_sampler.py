"""The sampler loop on a model with a known answer, and one drawing, one seed."""

import pytest
import torch

from src.config import compose, plain
from src.model.colorizer import Colorizer
from src.sampling.sampler import initial_noise, sample, scheduler

NETWORK = plain(compose().backbone.unet)


class PointMass(torch.nn.Module):
    """The exact noise prediction when all data is one latent: the sampler must land on it."""

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
    assert torch.equal(initial_noise([6], (4, 2, 2))[0], initial_noise([5, 6], (4, 2, 2))[1])


def test_unknown_sigmas() -> None:
    with pytest.raises(ValueError, match="must be one of vp, karras"):
        scheduler("cosine", 5)
