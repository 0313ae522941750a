"""Weights files are read without running what is in them."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from src.weights import WeightsError, read_weights


def make_file(path: str) -> None:
    Path(path).touch()


class Trap:
    """An object of a checkpoint whose unpickling runs a function."""

    def __init__(self, function: Callable, argument: str) -> None:
        self.call = function, (argument,)

    def __reduce__(self) -> tuple:
        return self.call


class AttributeDict(dict):
    """As Lightning's, which hyperparameters are kept in."""


class Callback:
    pass


def test_a_checkpoints_foreign_objects_stay_inert(tmp_path: Path) -> None:
    trace, path = tmp_path / "it_ran", tmp_path / "model.ckpt"
    callback = Callback()
    callback.best = Trap(make_file, str(trace))  # type: ignore[attr-defined]
    content = {
        "callbacks": {Callback: {"best": np.float64(0.5)}, "other": callback},
        "hyper_parameters": AttributeDict(learning_rate=1e-4, trap=Trap(make_file, str(trace))),
        "loops": [Trap(eval, f"open({str(trace)!r}, 'w')")],
        "state_dict": {"a": torch.arange(3.0), "step": 3},
    }
    torch.save(content, path)
    torch.load(path, weights_only=False)
    assert trace.exists()  # so the file does run when it is unpickled
    trace.unlink()
    assert {k: v.tolist() for k, v in read_weights(path).items()} == {"a": [0.0, 1.0, 2.0]}
    assert not trace.exists()


def test_calls_of_the_system_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"a": torch.ones(1)}, "x": Trap(os.system, f"touch {tmp_path / 'it_ran'}")}, path)
    with pytest.raises(WeightsError, match=r"model.ckpt cannot be read as weights alone \(.*posix.system.*blocked\)"):
        read_weights(path)
    assert not (tmp_path / "it_ran").exists()


def test_tensors_are_read_as_stored(tmp_path: Path) -> None:
    weights = {"a": torch.randn(3).half(), "b": torch.arange(4)}
    torch.save(weights, tmp_path / "w.pt")
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(weights, tmp_path / "w.safetensors")
    for name in ("w.pt", "old.pth", "w.safetensors"):
        given = read_weights(tmp_path / name)
        assert given.keys() == weights.keys() and all(torch.equal(given[k], v) for k, v in weights.items())


def test_unusable_files_are_named(tmp_path: Path) -> None:
    for name in ("a.safetensors", "a.ckpt"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(WeightsError, match=rf"{name} cannot be read as weights alone \(.+\): it is damaged or holds code;"):
            read_weights(tmp_path / name)
    torch.save({"state_dict": {"a": torch.ones(500)}}, tmp_path / "cut.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "cut.ckpt").read_bytes()[:900])
    with pytest.raises(WeightsError, match=r"cut.ckpt cannot be read"):
        read_weights(tmp_path / "cut.ckpt")
    for content in ([torch.ones(1)], {"epoch": 3}, torch.nn.Linear(1, 1)):
        torch.save(content, tmp_path / "b.pt")
        with pytest.raises(WeightsError, match=r"b.pt (holds no weights|cannot be read)"):
            read_weights(tmp_path / "b.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1)), str(tmp_path / "c.pt"))
    with pytest.raises(WeightsError, match=r"c.pt cannot be read as weights alone \(.*torchscript"):
        read_weights(tmp_path / "c.pt")
    with pytest.raises(WeightsError, match="There is no file"):
        read_weights(tmp_path / "d.ckpt")
    with pytest.raises(WeightsError, match=r"no weights file: give one that ends in .safetensors, .ckpt"):
        read_weights(tmp_path / "d.onnx")
