"""Averages whose width is chosen after the training (Karras et al. 2024, section 3 and appendix C)."""

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn

from src.files import UserError
from src.model.checkpoint import WholeCheckpoints
from src.model.ema import (
    WIDEST,
    PowerEMA,
    coefficients,
    decay,
    exponent,
    inner_product,
    misfit,
    reconstruct,
    snapshots,
)
from tests.model.test_checkpoint import files_of_at_most

# Gauss-Legendre on [0, 1]: with 200 points exact for polynomials up to degree 399.
POINTS, SHARES = ((np.polynomial.legendre.leggauss(200)[i] + (1 - i)) / 2 for i in range(2))
width = st.floats(0.02, 0.28)


def integral(f: Any, end: float) -> float:
    """Of f from 0 to `end`, in pieces that halve towards 0, where tau^gamma is not smooth, and towards `end`, where it is steep."""
    edges = end * np.concatenate([[0], 0.5 ** np.arange(30, 0, -1), 1 - 0.5 ** np.arange(2, 10), [1]])
    return sum((b - a) * SHARES @ f(a + (b - a) * POINTS) for a, b in itertools.pairwise(edges))


def profile(t: float, gamma: float) -> Any:
    return lambda tau: (gamma + 1) / t * (tau / t) ** gamma


@settings(deadline=None)
@given(width)
def test_a_profile_has_the_width_that_its_exponent_was_made_for(std: float) -> None:
    p = profile(1.0, exponent(std))
    mean = integral(lambda tau: p(tau) * tau, 1.0)
    assert integral(p, 1.0) == pytest.approx(1, rel=1e-9)
    assert math.sqrt(integral(lambda tau: p(tau) * (tau - mean) ** 2, 1.0)) == pytest.approx(std, rel=1e-7)


@settings(deadline=None)
@given(st.floats(1e-6, WIDEST * (1 - 1e-12)))
def test_the_exponent_solves_eq_123(std: float) -> None:
    gamma = exponent(std)
    assert gamma >= 0 and math.sqrt((gamma + 1) / (gamma + 2) ** 2 / (gamma + 3)) == pytest.approx(std, rel=1e-12)


def test_exponents_come_in_the_shape_of_the_widths() -> None:
    # edm2 tracks these two; its root finder says 16.9721986 and 6.93720394.
    assert np.allclose(exponent([[0.05, 0.10]]), [[16.9721986, 6.93720394]], atol=1e-7)
    assert exponent(0.05) == exponent([0.05])[0]


@pytest.mark.parametrize("std", [0.0, -0.1, WIDEST, 0.5, math.nan, [0.1, 0.3]])
def test_widths_outside_the_range_have_no_exponent(std: Any) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 0\.2887"):
        exponent(std)


@settings(deadline=None)
@given(st.integers(1, 10**6), width, st.integers(1, 10**6), width)
def test_inner_products_are_integrals(step_a: int, std_a: float, step_b: int, std_b: float) -> None:
    a, b = (step_a, exponent(std_a)), (step_b, exponent(std_b))
    product = inner_product(*a, *b)
    assert product == inner_product(*b, *a)
    p, q = profile(*a), profile(*b)
    assert product == pytest.approx(integral(lambda tau: p(tau) * q(tau), min(step_a, step_b)), rel=1e-7, abs=1e-300)


def test_inner_products_do_not_overflow() -> None:
    gamma = exponent(1e-4)  # 1e4: 1e6^1e4 is no number
    assert 0 < inner_product(1e6, gamma, 1e6 - 1, gamma) < inner_product(1e6, gamma, 1e6, gamma) < math.inf
    assert inner_product(1, gamma, 1e6, gamma) == inner_product(1e6, gamma, 1, gamma) == 0
    # Scale-free: twice the time, half the product.
    assert inner_product(2e12, gamma, 3e12, 7.0) == pytest.approx(inner_product(1e12, gamma, 1.5e12, 7.0) / 2, rel=1e-9)


def grid(count: int, every: int = 100) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(np.arange(1, count + 1) * every, 2), np.tile([0.05, 0.10], count)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 64), st.data())
def test_a_tracked_average_is_its_own_reconstruction(count: int, data: st.DataObject) -> None:
    steps, widths = grid(count)
    i = data.draw(st.integers(0, len(steps) - 1))
    assert np.allclose(coefficients(steps, widths, steps[i], widths[i]), np.eye(len(steps))[i], atol=1e-7)
    assert misfit(steps, widths, steps[i], widths[i]) < 1e-6


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 32), width, st.integers(0, 10**6))
def test_no_other_combination_of_sum_1_fits_better(count: int, std: float, seed: int) -> None:
    steps, widths = grid(count)
    x = coefficients(steps, widths, steps[-1], std)
    assert x.sum() == pytest.approx(1, abs=1e-9)
    t, gammas, end = steps.astype(float), exponent(widths), (float(steps[-1]), exponent(std))
    gram, overlap = inner_product(t[:, None], gammas[:, None], t, gammas), inner_product(t, gammas, *end)

    def distance(y: np.ndarray) -> float:
        return y @ gram @ y - 2 * overlap @ y + inner_product(*end, *end)

    other = np.random.default_rng(seed).normal(size=len(x)) * 1e-2
    assert distance(x) <= distance(x + other - other.mean())
    assert misfit(steps, widths, steps[-1], std) ** 2 == pytest.approx(distance(x) / inner_product(*end, *end), rel=1e-6, abs=1e-12)


def test_more_snapshots_fit_better_and_too_narrow_a_width_does_not_fit() -> None:
    few, many = (misfit(*grid(n), 100 * n, 0.07) for n in (8, 64))
    assert many < 3e-4 < few < 0.02
    assert misfit(*grid(8), 800, 0.01) > 0.5


def follow(ema: PowerEMA, weights: Tensor, rank: int = 0) -> None:
    """Runs the callback over a trajectory [steps + 1, n], its first row the weights before training."""
    colorizer = nn.Linear(weights.shape[1], 1, bias=False)
    trainer, module = SimpleNamespace(global_step=0, is_global_zero=rank == 0), SimpleNamespace(trained=colorizer)
    for step, row in enumerate(weights):
        trainer.global_step = step
        colorizer.weight.data.copy_(row[None])
        if step:
            ema.on_train_batch_end(trainer, module)
        else:
            ema.on_train_start(trainer, module)
    ema.on_fit_end(trainer, module)


def walk(steps: int, size: int) -> Tensor:
    return torch.randn(steps + 1, size, generator=torch.Generator().manual_seed(0)).cumsum(0)


@pytest.mark.parametrize("std", [0.05, 0.1, 0.25])
def test_the_average_is_the_sum_weighted_by_the_profile(tmp_path: Path, std: float) -> None:
    steps, weights = 300, walk(300, 16)
    ema = PowerEMA([std], 1000, tmp_path)
    follow(ema, weights)
    # The products of Eq. 127 telescope: step k has the integral of the profile from k - 1 to k.
    edges = (np.arange(steps + 1) / steps) ** (exponent(std) + 1)
    expected = np.diff(edges) @ weights[1:].double().numpy()
    assert np.allclose(ema.averages[std]["weight"][0], expected, rtol=1e-5, atol=1e-5)


def test_the_first_update_forgets_the_weights_before_training(tmp_path: Path) -> None:
    assert decay(1, 7.0) == 0
    ema = PowerEMA([0.05], 1000, tmp_path)
    weights = torch.tensor([[math.pi * 1e8, 1.0], [1.1, 2.3]])
    follow(ema, weights)
    assert torch.equal(ema.averages[0.05]["weight"], weights[1:])


def test_a_reconstruction_is_the_average_that_was_not_tracked(tmp_path: Path) -> None:
    weights = walk(2000, 500)
    tracked, direct = PowerEMA([0.05, 0.10], 100, tmp_path / "tracked"), PowerEMA([0.07], 10_000, tmp_path / "direct")
    follow(tracked, weights)
    follow(direct, weights)
    assert [(s, w) for s, w, _ in snapshots(tmp_path / "tracked")] == [(s, w) for s in range(100, 2001, 100) for w in (0.05, 0.1)]
    found, expected = reconstruct(tmp_path / "tracked", 0.07)["weight"], direct.averages[0.07]["weight"]
    assert found.dtype == torch.float32
    assert (found - expected).norm() / expected.norm() < 5e-4  # float16 alone rounds by 2e-4
    # Also against what the width changes: the neighbours are far from it.
    between = (tracked.averages[0.05]["weight"] - tracked.averages[0.10]["weight"]).norm()
    assert (found - expected).norm() / between < 5e-3


def test_an_earlier_step_and_a_tracked_width_can_be_had(tmp_path: Path) -> None:
    weights = walk(500, 50)
    follow(PowerEMA([0.05, 0.10], 100, tmp_path / "a"), weights)
    earlier = PowerEMA([0.10], 1000, tmp_path / "b")
    follow(earlier, weights[:301])
    found = reconstruct(tmp_path / "a", 0.10, 300)["weight"]
    assert torch.equal(found, earlier.averages[0.10]["weight"].half().float())


def test_other_ranks_average_but_do_not_write(tmp_path: Path) -> None:
    ema = PowerEMA([0.1], 2, tmp_path)
    follow(ema, walk(5, 4), rank=1)
    assert ema.step == 5 and list(tmp_path.iterdir()) == []


def test_a_new_start_does_not_mix_with_the_snapshots_of_an_earlier_attempt(tmp_path: Path) -> None:
    follow(PowerEMA([0.1], 2, tmp_path), walk(6, 4))
    follow(PowerEMA([0.1], 0, tmp_path), walk(3, 4))
    assert [step for step, _, _ in snapshots(tmp_path)] == [3]


def test_weights_in_pieces_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="strategy=ddp"):
        PowerEMA([0.1], 2, tmp_path).setup(SimpleNamespace(strategy=FSDPStrategy()), None, "fit")


class Tiny(lightning.LightningModule):
    """A colorizer with a running mean and a counter; what it sees depends on the step alone."""

    def __init__(self) -> None:
        super().__init__()
        self.trained = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.updates: list[int] = []

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * self.global_step + batch_index % 2)
        return self.trained(torch.randn(8, 3, generator=generator)).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.trained.parameters(), 0.05)


class Counted(PowerEMA):
    updates = 0

    def on_train_batch_end(self, trainer: Any, module: Any, *rest: Any) -> None:
        before = self.step
        super().on_train_batch_end(trainer, module, *rest)
        self.updates += self.step != before


def fit(
    folder: Path, epochs: int, resume: bool = False, accumulate: int = 1, widths: tuple[float, ...] = (0.05, 0.1)
) -> tuple[Counted, Tiny]:
    """Epochs of six batches, with a checkpoint after every fourth step that replaces the one before."""
    torch.manual_seed(0)
    module, ema = Tiny(), Counted(widths, 5, folder / "ema")
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accumulate_grad_batches=accumulate,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[WholeCheckpoints()],
        # The checkpoint comes first in the list: Lightning still calls it after the averages.
        callbacks=[ModelCheckpoint(folder, filename="last", enable_version_counter=False, every_n_train_steps=4), ema],
    )
    batches: Any = torch.utils.data.DataLoader(list(range(6)))  # type: ignore[arg-type]
    trainer.fit(module, batches, ckpt_path=folder / "last.ckpt" if resume else None, weights_only=True)
    return ema, module


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, module = fit(tmp_path / "whole", 3)
    fit(tmp_path / "parts", 1)  # six steps, the checkpoint after the fourth
    resumed, again = fit(tmp_path / "parts", 3, resume=True)
    assert equal(module.state_dict(), again.state_dict()) and whole.step == resumed.step == 18 and resumed.updates == 14
    for width in (0.05, 0.1):
        assert equal(whole.averages[width], resumed.averages[width])
        assert not equal(whole.averages[width], {k: v for k, v in module.trained.state_dict().items() if v.is_floating_point()})
    files = [{p.name: p.read_bytes() for p in (tmp_path / run / "ema").iterdir()} for run in ("whole", "parts")]
    assert files[0] == files[1]
    assert sorted(files[0]) == [f"{step:08d}-{width}.safetensors" for step in (5, 10, 15, 18) for width in ("0.050", "0.100")]


@pytest.mark.filterwarnings("ignore")
def test_a_run_killed_between_its_last_checkpoint_and_its_last_snapshot_gets_it(tmp_path: Path) -> None:
    fit(tmp_path, 2)
    before = {p.name: p.read_bytes() for p in (tmp_path / "ema").glob("00000012-*")}
    for name in before:
        (tmp_path / "ema" / name).unlink()
    ema, _ = fit(tmp_path, 2, resume=True)
    assert ema.updates == 0 and len(before) == 2
    assert {p.name: p.read_bytes() for p in (tmp_path / "ema").glob("00000012-*")} == before


@pytest.mark.filterwarnings("ignore")
def test_micro_batches_are_not_updates(tmp_path: Path) -> None:
    ema, _ = fit(tmp_path, 2, accumulate=2)
    assert ema.updates == ema.step == 6
    assert [s for s, _, _ in snapshots(tmp_path / "ema")] == [5, 5, 6, 6]


@pytest.mark.filterwarnings("ignore")
def test_a_snapshot_is_a_state_dict(tmp_path: Path) -> None:
    ema, module = fit(tmp_path, 2)
    weights = reconstruct(tmp_path / "ema", 0.1)
    module.trained.load_state_dict(weights)
    assert weights["1.num_batches_tracked"] == 12
    assert torch.allclose(weights["1.running_mean"], ema.averages[0.1]["1.running_mean"], rtol=1e-3, atol=1e-6)
    # The checkpoint's averages are float32 and nothing that needs a pickle.
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["Counted"]
    assert equal(state["averages"][0.1], ema.averages[0.1]) and state["step"] == 12


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_with_other_averages_is_refused(tmp_path: Path) -> None:
    fit(tmp_path, 1)
    with pytest.raises(UserError, match=r"step 4 lacks the averages of widths \[0\.05, 0\.2\]"):
        fit(tmp_path, 2, resume=True, widths=(0.05, 0.2))


@pytest.mark.parametrize("widths", [[], [0.05, 0.05], [0.0625], [0.3], [0.0]])
def test_widths_that_cannot_be_tracked_are_refused(tmp_path: Path, widths: list[float]) -> None:
    with pytest.raises(ValueError, match="verage"):
        PowerEMA(widths, 1, tmp_path)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with files_of_at_most(10_000), pytest.raises(OSError, match=r"File too large.*00000001-0\.050"):
        follow(PowerEMA([0.05], 1, tmp_path), walk(1, 100_000))
    assert list(tmp_path.iterdir()) == [] and snapshots(tmp_path) == []


def test_what_cannot_be_reconstructed_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no snapshots"):
        reconstruct(tmp_path / "none", 0.1)
    follow(PowerEMA([0.05, 0.1], 10, tmp_path), walk(40, 8))
    for step, near in ((5, "10 and 20"), (24, "20 and 30"), (41, "30 and 40")):
        with pytest.raises(UserError, match=f"no snapshot at step {step}; the nearest are at {near}"):
            reconstruct(tmp_path, 0.1, step)
    with pytest.raises(UserError, match="between 0 and"):
        reconstruct(tmp_path, 0.3)
    with pytest.warns(UserWarning, match=r"8 snapshots are too few for an average of width 0\.01"):
        reconstruct(tmp_path, 0.01)
    follow(PowerEMA([0.2], 0, tmp_path / "wide"), walk(40, 9))
    (tmp_path / "wide" / "00000040-0.200.safetensors").rename(tmp_path / "00000040-0.200.safetensors")
    with pytest.raises(UserError, match=r"00000040-0\.200\.safetensors is of another network"):
        reconstruct(tmp_path, 0.07)
    snapshots(tmp_path)[0][2].write_bytes(b"half")
    with pytest.raises(UserError, match=r"00000010-0\.050\.safetensors is not a snapshot"):
        reconstruct(tmp_path, 0.07)
