"""Cached features against the VAE and CLIP beside the training."""

from pathlib import Path
from typing import Any

import pytest
import torch

from src.backbone.parts import load_backbone
from src.config import compose, plain
from src.data.loader import Table
from src.fit import columns_of
from src.model.colorizer import Colorizer
from src.model.training import Training


@pytest.mark.parametrize("scheme", ["shuffle", "deform"])
def test_training_on_cached_features_has_the_losses_of_live_ones(scheme: str, data_root: Path, backbone_directory: Path) -> None:
    def losses(features: str) -> torch.Tensor:
        config = compose(["scale=smoke", f"model={scheme}", f"trainer.features={features}"])
        torch.manual_seed(0)
        colorizer = Colorizer(plain(config.backbone.unet), "attention")
        for parameter in colorizer.parameters():  # zero-initialised layers would hide what goes in
            torch.nn.init.normal_(parameter, std=0.05) if parameter.ndim > 1 else None
        parts = load_backbone({"directory": backbone_directory}) if features == "live" else None
        settings: dict[str, Any] = {"shuffled": config.model.shuffled, "noisy": False, "drop_rate": 0.0, "dual": 0}
        module = Training(colorizer, settings, plain(config.scale.loss), plain(config.scale.optimizer), 0, parts)
        batch = Table(data_root / "train", columns_of(config)).collate(range(8))
        with torch.no_grad():
            return module.losses(batch, torch.Generator().manual_seed(1))[0]

    cached, live = losses("cached"), losses("live")
    assert cached.std() > 0.01 and not torch.equal(cached, live)
    torch.testing.assert_close(cached, live, rtol=2e-3, atol=2e-3)
