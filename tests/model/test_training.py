"""One training step in a small trainer: gradients that are not finite, and a batch learned by heart."""

from typing import Any

import lightning
import pytest
import torch

from src.config import compose, plain
from src.files import UserError
from src.model.colorizer import Colorizer
from src.model.training import MOST_SKIPPED, Training

CONFIG = compose(["scale=smoke"])
SCHEME = {"shuffled": True, "noisy": False, "drop_rate": 0.0, "dual": 0}
NETWORK = plain(CONFIG.backbone.unet) | {
    "latent_size": 4, "widths": [16, 32], "attention": [True, False], "heads": [1, 2], "stem": [8, 8], "context_width": 12,
}  # fmt: skip


def batch(spoilt: bool = False) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(8, 4, 4, 4, generator=generator)
    if spoilt:
        mean[3] = torch.nan
    return {
        "key": [f"row{i}" for i in range(8)],
        "mean": mean,
        "std": torch.zeros(8, 4, 4, 4),
        "tokens": torch.randn(8, 5, 12, generator=generator),
        "sketch": torch.randint(0, 256, (8, 8, 8), dtype=torch.uint8, generator=generator),
    }


def run(batches: list[dict[str, Any]], **options: Any) -> Training:
    torch.manual_seed(0)
    optimizer = {"peak": 2e-3, "weight_decay": 0.0, "warmup": 0, "decay_to_zero": False} | options.get("optimizer", {})
    module = Training(Colorizer(NETWORK, "attention"), SCHEME | options.get("scheme", {}), plain(CONFIG.scale.loss), optimizer, 0)
    trainer = lightning.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        gradient_clip_val=1.0, accelerator="cpu", devices=1,
    )  # fmt: skip
    module.before = {key: value.clone() for key, value in module.colorizer.state_dict().items()}
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    return module


def test_an_update_without_a_finite_gradient_is_left_out_and_counted() -> None:
    module = run([batch(spoilt=True)] * 2)
    assert module.skipped == 2
    assert all(torch.equal(module.before[key], value) for key, value in module.colorizer.state_dict().items())
    module = run([batch(spoilt=True), batch()])
    assert module.skipped == 1 and module.skipped_in_a_row == 0
    weights = module.colorizer.state_dict().values()
    assert all(value.isfinite().all() for value in weights)
    assert any(not torch.equal(module.before[key], value) for key, value in module.colorizer.state_dict().items())


def test_when_they_persist_the_run_stops_and_names_the_rows() -> None:
    with pytest.raises(UserError, match=r"10 updates in a row.*the loss of the rows row3 was not"):
        run([batch(spoilt=True)] * (MOST_SKIPPED + 1))


@pytest.mark.parametrize("scheme", [{}, {"noisy": True}, {"drop_rate": 0.5}, {"dual": 4}])
def test_every_scheme_learns(scheme: dict[str, Any]) -> None:
    def loss(module: Training) -> float:
        with torch.no_grad():
            return float(torch.stack([module.losses(batch(), torch.Generator().manual_seed(i))[0].mean() for i in range(8)]).mean())

    module = run([batch()] * 60, scheme=scheme)
    after = loss(module)
    module.colorizer.load_state_dict(module.before)
    assert after < 0.7 * loss(module)
