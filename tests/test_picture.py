"""From files to what the sampler is given."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from src.picture import finish, load, prepare, working_size
from src.recipe import read


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_working_sizes_fit_the_network(height: int, width: int) -> None:
    h, w = working_size(height, width, 64, 16)
    assert h % 16 == 0 and w % 16 == 0 and min(h, w) == 64


def test_edits_take_the_backbones_defaults_and_then_the_papers(pair: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    edits = [
        {"target": "red hair", "control": "hair", "target_scale": 8, "ratio": 1, "thresholds": None},
        {"target": "turquoise hair", "anchor": "hair", "control": "everything", "target_scale": -2, "enhance": True},
    ]
    defaults = {"thresholds": [0.1, 0.2, 0.3, 0.4], "ratio": 3}
    model = load(pair | {"edits": edits, "backbone": pair["backbone"] | {"edit": defaults}})
    assert [(e.thresholds, e.ratio) for e in model.edits] == [((0.1, 0.2, 0.3, 0.4), 1), ((0.1, 0.2, 0.3, 0.4), 3)]
    rest = {"thresholds": [0.1, 0.2, 0.3, 0.4], "subtract_projection": False}
    assert model.resolved["edits"] == [edits[0] | rest | {"enhance": False}, edits[1] | rest | {"ratio": 3}]
    assert capsys.readouterr().err == "warning: edit 2: CLIP does not know turquoise in its target\n"
    # Words from a recipe say all, whatever the defaults have become.
    again = load(pair | {"edits": model.resolved["edits"], "backbone": pair["backbone"] | {"edit": {"ratio": 9}}})
    assert again.resolved["edits"] == model.resolved["edits"]
    bare = pair["backbone"] | {"edit": {}}
    assert load(pair | {"edits": edits[:1], "backbone": bare}).edits[0].thresholds == (0.5, 0.55, 0.65, 0.95)


def test_a_picture_is_prepared(pair: dict[str, Any]) -> None:
    model = load(pair)
    drawing = prepare(pair, model)
    assert drawing.sketch.shape == (96, 64) and drawing.reference.shape == (64, 64, 3)
    settings = drawing.settings
    open_ = {"size": 64, "noise_level": 0, "device": "cpu", "precision": "fp32", "edits": []}
    assert {key: settings[key] for key in open_} == open_
    assert drawing.sha256.keys() == {"weights", "backbone", "sketch", "reference"}
    assert drawing.start is None and drawing.style is None
    larger = prepare(pair | {"size": 100, "start": pair["reference"], "style": pair["style"] | {"injection": True}}, model)
    assert larger.sketch.shape == (144, 96) and larger.start.shape == larger.style.shape == (144, 96, 3)
    assert larger.sha256["start"] == larger.sha256["reference"]
    assert len({drawing.group, larger.group, prepare(pair | {"gs": 5}, model).group}) == 3
    assert prepare(pair | {"seed": 5, "output": "other.png"}, model).group == drawing.group
    noisy = replace(model, noise_level=0.5)
    assert prepare(pair, noisy).settings["noise_level"] == 0.5
    assert prepare(pair | {"noise_level": 0.25}, noisy).settings["noise_level"] == 0.25


def test_a_scan_is_cleaned_by_option(pair: dict[str, Any], tmp_path: Path) -> None:
    sketch = np.asarray(Image.open(pair["sketch"]))
    Image.fromarray((sketch * 0.4 + 60).astype(np.uint8)).save(tmp_path / "scan.png")
    model = load(pair)
    scan = pair | {"sketch": str(tmp_path / "scan.png")}
    wanted = prepare(pair, model).sketch.astype(float)
    assert np.abs(prepare(scan | {"clean": True}, model).sketch - wanted).mean() < 5
    assert np.abs(prepare(scan, model).sketch - wanted).mean() > 50


def test_what_the_sampler_is_given(pair: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    given_: dict[str, Any] = {}

    def sample(colorizer: Any, sketch: torch.Tensor, tokens: torch.Tensor, seeds: list[int], **options: Any) -> torch.Tensor:
        given_.update(options, sketch=sketch, tokens=tokens, seeds=seeds)
        return torch.zeros(len(sketch), 4, sketch.shape[2] // 4, sketch.shape[3] // 4)

    monkeypatch.setattr("src.sampling.sampler.sample", sample)
    choices = {"gs": 3, "sgs": 2, "guidance": [0, 0.5], "strength": [1, 0.5, 0.5, 0], "control_scale": 1.5, "start_strength": 0.6}
    settings = pair | choices | {"start": pair["reference"], "sketch_negative": "zero_features", "seed": 7}
    edits = [{"target": "red hair", "control": "everything", "target_scale": 8}]
    model, edited = load(settings), load(settings | {"edits": edits})
    finish([prepare(settings, model)] * 2, model)
    tokens = given_["tokens"]
    assert {key: given_[key] for key in choices} == choices | {"guidance": (0, 0.5)}
    assert (given_["seeds"], given_["sketch_negative"], given_["noise_level"]) == ([7, 7], "zero_features", 0)
    assert given_["steps"] == 3 and given_["start"].shape == (2, 4, 24, 16)
    assert given_["sketch"].shape == (2, 3, 96, 64) and given_["sketch"].min() == -1
    finish([prepare(settings | {"copies": 3}, edited)], edited)
    assert given_["seeds"] == [7] * 3 and read(Path(pair["output"]))["batch"] == 3
    change = given_["tokens"][:2, 1:] - tokens[:, 1:]
    assert torch.allclose(change, (8 * edited.edits[0].target).expand_as(change), atol=1e-4)


def test_every_option_makes_another_picture(pair: dict[str, Any]) -> None:
    options: list[dict[str, Any]] = [
        {}, {"gs": 4}, {"sgs": 90}, {"sgs": 90, "sketch_negative": "zero_features"}, {"guidance": [0, 0.4]}, {"noise_level": 1},
        {"strength": [1, 0.5, 1, 1]}, {"control_scale": 50}, {"start": pair["reference"], "start_strength": 0.4},
        {"sampler": pair["sampler"] | {"solver": "euler"}},
        {"style": pair["style"] | {"injection": True}}, {"style": pair["style"] | {"adain": ["middle", "final"]}},
    ]  # fmt: skip
    model = load(pair)
    made = []
    for option in options:
        finish([prepare(pair | {"size": 32} | option, model)], model)
        made.append(np.asarray(Image.open(pair["output"])))
    same = [(options[i], options[j]) for j in range(len(made)) for i in range(j) if np.array_equal(made[i], made[j])]
    assert not same
