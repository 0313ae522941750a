"""A mirror folder of small random pipelines and adapters."""

from pathlib import Path

import pytest
import torch

from src.baselines import adapters
from tests.baselines import small


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of someone: sd, sdxl and adapter (the image encoder), and what sits on each: <name>-ip, <name>-control, <name>-t2i."""
    torch.manual_seed(0)
    mirror = tmp_path_factory.mktemp("mirror")
    small.sd(mirror / "someone" / "sd")
    small.sdxl(mirror / "someone" / "sdxl")
    small.image_encoder(mirror / "someone" / "adapter")
    for name in ("sd", "sdxl"):
        unet = small.load(mirror, name).unet
        folder = mirror / "someone" / f"{name}-ip"
        weights = adapters.new_ip_adapter(unet, small.EMBEDDING)
        adapters.save_ip_adapter({k: torch.randn_like(v) / 2 for k, v in weights.items()}, folder, {})
        adapters.save_folder(small.randomized(adapters.new_controlnet(unet, 8)), mirror / "someone" / f"{name}-control", {})
        adapters.save_folder(small.randomized(adapters.new_t2i_adapter(unet, 8)), mirror / "someone" / f"{name}-t2i", {})
    return mirror
