"""Order of the solvers: the sampler against the exact solution where the data is Gaussian, over 20 to 160 steps.

`python -m benchmarks.order`. Expected: DPM-Solver++ 2M is of second order on the Karras grid that ends at sigma_min; a last step to
sigma zero is of first order and hides it; DDIM and Euler are of first order everywhere.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch

from src.model.attention import Call
from src.sampling.sampler import generators, noise, sample
from src.sampling.solvers import solver_of

STEPS = (20, 40, 80, 160)
SHAPE = (4, 8, 8)


class Gaussian(torch.nn.Module):
    """The exact noise prediction where every number of the data is N(mean, std^2), independent. In float64."""

    kind, prediction = "attention", "epsilon"
    mean, std = 0.5, 0.7

    def __init__(self, sigmas: torch.Tensor) -> None:
        """sigmas: of the steps, in their order; the rounded timesteps that a network is told are not exact."""
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.sigmas = iter(sigmas.tolist())

    def used(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens

    def reference(self, tokens: torch.Tensor, strength: float) -> list[torch.Tensor]:
        return []

    def features(self, sketch: torch.Tensor, control_scale: float) -> list[torch.Tensor]:
        return []

    def forward(self, z: torch.Tensor, t: torch.Tensor, tokens: None, features: list[torch.Tensor], call: Call) -> torch.Tensor:
        sigma = next(self.sigmas)
        x = z * (1 + sigma**2) ** 0.5
        return (x - denoised(x, sigma)) / sigma


def denoised(x: Any, sigma: float) -> Any:
    """The mean of the data given x = data + sigma noise."""
    return (Gaussian.std**2 * x + sigma**2 * Gaussian.mean) / (Gaussian.std**2 + sigma**2)


def exact(x: np.ndarray, sigma: float, end: float) -> np.ndarray:
    """Where the probability flow takes x from noise level sigma to noise level end."""
    shrunk = (Gaussian.std**2 + end**2) / (Gaussian.std**2 + sigma**2)
    return Gaussian.mean + (x - Gaussian.mean) * shrunk**0.5


def sampled(solver: str, sigmas: str, final: str, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The result, the noise that it started from (both x = data + sigma noise) and the sigmas [steps + 1], in float64."""
    grid = solver_of(solver, sigmas, steps, final)
    options = {"solver": solver, "sigmas": sigmas, "final": final, "steps": steps}
    z = sample(Gaussian(grid.sigmas), torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 4), [0], latent_channels=4, factor=4, **options)  # type: ignore[arg-type]
    levels = grid.sigmas.double().numpy()
    begin, end = levels[0], levels[-1]
    if solver == "euler":  # this class keeps x itself
        return z.double().numpy(), (noise(generators([0]), SHAPE) * grid.init_noise_sigma).double().numpy(), levels
    start = noise(generators([0]), SHAPE).double().numpy() * (1 + begin**2) ** 0.5
    return z.double().numpy() * (1 + end**2) ** 0.5, start, levels


def orders(solver: str, sigmas: str, final: str) -> tuple[list[float], list[float]]:
    """Root mean square errors at STEPS, and the order between each two."""
    errors = []
    for steps in STEPS:
        result, start, levels = sampled(solver, sigmas, final, steps)
        errors.append(float(np.sqrt(np.mean((result - exact(start, levels[0], levels[-1])) ** 2))))
    return errors, [float(np.log2(a / b)) for a, b in pairwise(errors)]


def main() -> None:
    print(
        f"{'solver':10} {'sigmas':7} {'final':10} {'RMS error at ' + ', '.join(map(str, STEPS)) + ' steps':44} order between them"
    )
    for solver in ("dpmpp_2m", "ddim", "euler"):
        for sigmas, final in (("karras", "sigma_min"), ("karras", "zero"), ("vp", "zero"), ("vp", "sigma_min")):
            errors, found = orders(solver, sigmas, final)
            shown = "  ".join(f"{error:.2e}" for error in errors)
            print(f"{solver:10} {sigmas:7} {final:10} {shown:44} {'  '.join(f'{order:.2f}' for order in found)}")


if __name__ == "__main__":
    main()
