"""Training of the baselines' parts, on the shipped base and a few drawings."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from src.adapt import adapt
from src.baselines.training import PartTraining
from src.config import compose
from src.files import UserError

FILES = {"controlnet": "diffusion_pytorch_model.safetensors", "ip_adapter": "ip-adapter.safetensors"}
FILES |= {"t2i_adapter": FILES["controlnet"], "unet": FILES["controlnet"]}


@pytest.fixture
def config_of(data_root: Path, tmp_path: Path) -> Any:
    def config(kind: str, *overrides: str) -> Any:
        small = ("scale.samples_per_epoch=8", "scale.batch=4", "epochs=2", f"data.root={data_root}")
        return compose([f"part={kind}", *small, f"output={tmp_path / kind}", *overrides], "adapt")

    return config


@pytest.mark.parametrize("kind", FILES)
def test_a_part_is_trained_and_belongs_to_diffusers(kind: str, config_of: Any, tmp_path: Path) -> None:
    import diffusers

    folder = adapt(config_of(kind))
    card = json.loads((folder / "card.json").read_text())
    assert card["steps"] == 4 and card["samples"] == 16 and not (folder / "last.ckpt").exists()
    weights = load_file(folder / FILES[kind])
    assert all(value.isfinite().all() for value in weights.values())
    if kind == "ip_adapter":
        unet = diffusers.UNet2DConditionModel.from_pretrained("backbone/demo/baselines/sd15")
        parts: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
        for key, value in weights.items():
            part, _, name = key.partition(".")
            parts[part][name] = value
        unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
        assert len(weights) == 4 + 2 * 4
    else:
        kinds = {"controlnet": "ControlNetModel", "t2i_adapter": "T2IAdapter", "unet": "UNet2DConditionModel"}
        network = getattr(diffusers, kinds[kind]).from_pretrained(folder)
        assert set(network.state_dict()) == set(weights)


def test_a_training_that_was_stopped_ends_as_one_that_was_not(
    config_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = adapt(config_of("ip_adapter", f"output={tmp_path / 'whole'}"))

    def stop(self: PartTraining) -> None:
        if self.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises((KeyboardInterrupt, SystemExit)):
        patched.setattr(PartTraining, "on_train_epoch_start", stop)
        adapt(config_of("ip_adapter"))
    assert not (tmp_path / "ip_adapter/card.json").exists() and (tmp_path / "ip_adapter/last.ckpt").exists()
    stopped = adapt(config_of("ip_adapter"))
    assert (stopped / FILES["ip_adapter"]).read_bytes() == (whole / FILES["ip_adapter"]).read_bytes()


def test_finished_parts_and_other_settings(config_of: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = adapt(config_of("t2i_adapter", "epochs=1"))
    before = (folder / "card.json").stat().st_mtime_ns
    assert adapt(config_of("t2i_adapter", "epochs=1")) == folder and "trained already" in capsys.readouterr().out
    assert (folder / "card.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="other settings"):
        adapt(config_of("t2i_adapter", "epochs=1", "seed=1"))


def test_what_cannot_be_trained_is_said_in_a_sentence(config_of: Any) -> None:
    with pytest.raises(UserError, match="is trained on a base: say base="):
        adapt(config_of("controlnet", "base=null"))
    with pytest.raises(UserError, match="has no sdxl among its bases: there are sd15, anything"):
        adapt(config_of("controlnet", "base=sdxl"))
    with pytest.raises(UserError, match=r"holds another network|no key of an IP-Adapter|is no configuration|describes a"):
        adapt(config_of("controlnet", "start=backbone/demo/baselines/sd15"))
