"""What an edit accepts, edits from words, series."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from src.files import UserError
from src.manipulation import Edit, EditError, encode_edits, series

X, Y, Z = torch.eye(3)
WORDS = {"red hair": X, "hair": Y, "blue hair": Z, "everything": -Z}


class Encoder:
    """The words above, and what was asked for."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: list[str]) -> torch.Tensor:
        self.calls.append(texts)
        return torch.stack([WORDS[text] for text in texts])


def test_the_papers_defaults() -> None:
    edit = Edit(X, target_scale=8)
    assert (edit.anchor, edit.control, edit.enhance, edit.subtract_projection) == (None, None, False, False)
    assert (edit.thresholds, edit.ratio) == ((0.5, 0.55, 0.65, 0.95), 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        edit.target_scale = 9


def test_positions_are_target_anchor_control() -> None:
    edit = Edit(X, Y, Z, target_scale=8)
    assert edit.target is X and edit.anchor is Y and edit.control is Z
    with pytest.raises(TypeError):
        Edit(X, Y, Z, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rounded_unit_vectors_are_unit_vectors(dtype: torch.dtype) -> None:
    vector = torch.nn.functional.normalize(torch.randn(1024, generator=torch.Generator().manual_seed(0)), dim=0).to(dtype)
    Edit(vector, vector, vector, target_scale=8)


@pytest.mark.parametrize("thresholds", [(0, 0, 0, 0), (1, 1, 1, 1), (0.2, 0.2, 0.7, 0.7), [0, 0.5, 0.6, 1]])
def test_equal_thresholds_and_the_ends_are_fine(thresholds: Any) -> None:
    assert Edit(X, target_scale=8, thresholds=thresholds).thresholds == tuple(thresholds)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": 2 * X}, r"target needs .* length 1, got length 2\."),
        ({"anchor": 0 * X}, r"anchor needs .* length 1, got length 0\."),
        ({"control": X / 0}, r"control needs .* length 1, got length nan\."),
        ({"target": X[None]}, r"target needs to be a text embedding \[D\] .* got \[1, 3\]\."),
        ({"target": "red hair"}, r"target needs to be a text embedding"),
        ({"target": torch.tensor([1, 0, 0])}, r"of floating numbers"),
        ({"anchor": torch.eye(2)[0]}, r"anchor needs to have the 3 numbers of the target, got 2\."),
        ({"control": torch.eye(4)[0]}, r"control needs to have the 3 numbers of the target, got 4\."),
        ({"control": "hair"}, r"control needs to be an embedding or \"everything\", got 'hair'\."),
        ({"target_scale": float("nan")}, r"target_scale needs to be a finite number"),
        ({"target_scale": "8"}, r"target_scale needs to be a finite number, got '8'\."),
        ({"target_scale": True}, r"target_scale needs to be a finite number"),
        ({"ratio": -0.1}, r"ratio needs to be .* at least 0"),
        ({"ratio": float("inf")}, r"ratio needs to be a finite number"),
        ({"thresholds": (0.5, 0.6, 0.7)}, r"thresholds need to be four numbers"),
        ({"thresholds": (0.6, 0.5, 0.7, 0.8)}, r"that do not decrease"),
        ({"thresholds": (-0.1, 0.5, 0.7, 0.8)}, r"in \[0, 1\]"),
        ({"thresholds": (0.1, 0.5, 0.7, 1.1)}, r"in \[0, 1\]"),
        ({"thresholds": (0.1, float("nan"), 0.7, 0.8)}, r"thresholds need to be"),
        ({"thresholds": "abcd"}, r"thresholds need to be"),
        ({"thresholds": 0.5}, r"thresholds need to be"),
        ({"enhance": 1}, r"enhance needs to be true or false, got 1\."),
        ({"subtract_projection": "no"}, r"subtract_projection needs to be true or false"),
    ],
)
def test_values_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Edit(**{"target": X, "target_scale": 8, **values})
    assert isinstance(error.value, UserError)
    assert str(error.value).count(". ") == 0 and str(error.value).endswith(".")


def test_words_become_edits_with_one_call_of_the_encoder() -> None:
    encoder = Encoder()
    first, second, third = encode_edits(
        [
            {"target": "red hair", "anchor": "hair", "control": "hair", "target_scale": 8, "enhance": True},
            {"target": " blue hair ", "anchor": "", "control": "Everything", "target_scale": 4.5, "ratio": 3, "thresholds": None},
            {"target": "everything", "target_scale": -2, "thresholds": [0, 0.1, 0.2, 0.3], "subtract_projection": True},
        ],
        encoder,
    )
    assert encoder.calls == [["red hair", "hair", "blue hair", "everything"]]
    assert torch.equal(first.target, X) and torch.equal(first.anchor, Y) and torch.equal(first.control, Y)
    assert (first.target_scale, first.enhance, first.ratio) == (8, True, 2)
    assert torch.equal(second.target, Z) and second.anchor is None and second.control == "everything"
    assert (second.target_scale, second.ratio, second.thresholds) == (4.5, 3, (0.5, 0.55, 0.65, 0.95))
    assert torch.equal(third.target, -Z) and third.control is None and third.subtract_projection
    assert (third.target_scale, third.thresholds) == (-2, (0, 0.1, 0.2, 0.3))


def test_a_configurations_edits() -> None:
    config = OmegaConf.create(
        {"edits": [{"target": "red hair", "control": "hair", "target_scale": 8, "thresholds": [0.1, 0.2, 0.3, 0.4]}]}
    )
    (edit,) = encode_edits(config.edits, Encoder())
    assert edit.thresholds == (0.1, 0.2, 0.3, 0.4) and torch.equal(edit.control, Y)


def test_no_edits_ask_nothing() -> None:
    encoder = Encoder()
    assert encode_edits([], encoder) == [] and encoder.calls == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"target": "red hair"}, "Edit 2: it lacks target_scale."),
        ({"target": "  ", "control": "hair"}, "Edit 2: it lacks target and target_scale."),
        ({"target": "red hair", "target_scale": 8, "Anchor": "hair", "scale": 2}, "Edit 2: an edit has no Anchor, scale; it has "),
        ({"target": ["red hair"], "target_scale": 8}, "Edit 2: target needs to be a text, got ['red hair']."),
        ({"target": "red hair", "target_scale": "much"}, "Edit 2: target_scale needs to be a finite number, got 'much'."),
        ("red hair", "Edit 2: it needs to be a mapping"),
    ],
)
def test_words_that_cannot_be_an_edit(spec: Any, message: str) -> None:
    with pytest.raises(EditError) as error:
        encode_edits([{"target": "red hair", "target_scale": 8}, spec], Encoder())
    assert str(error.value).startswith(message)


def test_the_backbones_clip_is_a_text_encoder(backbone_directory: Path) -> None:
    from src.backbone.parts import load_backbone
    from src.manipulation import edit_tokens

    backbone = load_backbone({"directory": backbone_directory})
    edits = encode_edits([{"target": "red hair", "anchor": "hair", "control": "blue skin", "target_scale": 8}], backbone.text)
    expected = backbone.text(["red hair", "hair", "blue skin"])
    given = torch.stack([edits[0].target, edits[0].anchor, edits[0].control])
    assert torch.allclose(given, expected) and not given.requires_grad
    images = torch.rand(2, 3, backbone.size, backbone.size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tokens = backbone.tokens(images)
    edited = edit_tokens(tokens, edits, "attention")
    assert edited.shape == tokens.shape and torch.equal(edited[:, 0], tokens[:, 0])
    assert torch.isfinite(edited).all() and not torch.allclose(edited, tokens)


def test_a_series_changes_the_target_scale_alone() -> None:
    edit = Edit(X, Y, Z, target_scale=8, enhance=True, thresholds=(0, 0.1, 0.2, 0.3), ratio=1, subtract_projection=True)
    steps = series(edit, np.linspace(4, 15, 3))
    assert [step.target_scale for step in steps] == [4, 9.5, 15]
    for step in steps:
        assert dataclasses.replace(step, target_scale=8).__dict__ == edit.__dict__
    with pytest.raises(EditError, match="target_scale"):
        series(edit, [float("nan")])
