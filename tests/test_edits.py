"""Text edits on held-out drawings: what is asked for, what is measured, and the run as a user starts it."""

import json
from pathlib import Path

import numpy as np
import pytest

from src.backbone.parts import load_backbone
from src.config import compose
from src.data.palette import FAMILIES, to_rgb
from src.document import markdown
from src.edits import REPAINTED, Drawing, Request, editable, measure, requests
from src.edits_page import edits_figures, edits_sequence, edits_series, edits_tables, load_edits
from src.files import UserError

COLOURS = ["red", "yellow", "green", "blue"]


@pytest.fixture(scope="module")
def drawings(data_root: Path) -> list[Drawing]:
    return editable(data_root / "val", 0.05, seed=0)


def test_editable_regions_are_large_and_coloured(drawings: list[Drawing], data_root: Path) -> None:
    assert len({d.key for d in drawings}) == len(drawings) > 10
    for drawing in drawings:
        for region in drawing.large:
            pixels = (drawing.regions == region) & ~drawing.ink
            assert pixels.mean() >= 0.05 and drawing.parts[region - 1][0] not in {"white", "black"}
            # The regions are the picture's own: nearly all of their pixels have the family's colours.
            shades = {to_rgb(shade) for shade in FAMILIES[drawing.parts[region - 1][0]]}
            assert np.mean([tuple(p) in shades for p in drawing.reference[pixels].tolist()]) > 0.7
    assert [d.key for d in editable(data_root / "val", 0.05, seed=1)] != [d.key for d in drawings]


def test_requests_never_ask_for_the_present_colour(drawings: list[Drawing]) -> None:
    asked = requests(drawings, COLOURS, 3, seed=0)
    assert len(asked) == 3 * len(drawings)
    for number, drawing in enumerate(drawings):
        part = asked[3 * number : 3 * number + 3]
        assert {r.drawing for r in part} == {drawing} and len({r.region for r in part}) == 1 and part[0].region in drawing.large
        assert len({r.colour for r in part} - {drawing.parts[part[0].region - 1][0]}) == 3
    with pytest.raises(UserError, match="it must be 1 to 3"):
        requests(drawings, COLOURS, 4, seed=0)


def test_words_name_the_part() -> None:
    empty = np.zeros((4, 4), np.uint8)
    drawing = Drawing("a_1", 0, empty, np.zeros((4, 4, 3), np.uint8), empty, empty > 0, (("red", "hair"), ("blue", "")), (1, 2))
    assert Request(drawing, 1, "green").spec(8, {"ratio": 0}) == {
        "target": "green hair", "anchor": "red hair", "control": "red hair", "target_scale": 8, "ratio": 0,
    }  # fmt: skip
    assert Request(drawing, 2, "pink").words == ("blue", "pink")


def test_a_repainted_reference_is_a_perfect_answer(drawings: list[Drawing], backbone_directory: Path) -> None:
    backbone = load_backbone(compose([f"backbone.directory={backbone_directory}"], "edits").backbone)
    asked = requests(drawings, COLOURS, 1, seed=0)
    before = np.stack([r.drawing.reference for r in asked])
    after = np.stack([r.repainted() for r in asked])
    measured = measure(asked, before, {"3": before, "6": after, REPAINTED: after}, backbone)
    nothing, perfect = measured["responses"]["3"], measured["responses"]["6"]
    assert nothing["closer"]["share"] == nothing["region"]["mean"] == 0 and nothing["distance"] == measured["distance_before"]
    assert nothing["direction"] is None and -1 <= perfect["direction"] <= 1
    assert perfect["closer"]["share"] == perfect["named"]["share"] == measured["monotone"]["share"] == 1
    assert perfect["distance"] == pytest.approx(0, abs=1e-3) and perfect["others"]["mean"] == perfect["background"]["mean"] == 0
    assert perfect["closer"]["low"] < 1 and sum(c["edits"] for c in measured["by_colour"].values()) == len(asked)
    back = measure(asked, before, {"3": after, "6": before, REPAINTED: after}, backbone)
    assert back["monotone"]["share"] == 0


def test_a_run_writes_what_the_report_shows(command, tmp_path: Path, trained: Path) -> None:
    arguments = (
        f"checkpoints=['{trained}']", "drawings=6", "each=1", "target_scales=[2,8]", "sequences=2", "least=0.01",
        "sampler.steps=2", "out=edits",
    )  # fmt: skip
    result = command("src.edits", *arguments)
    assert result.returncode == 0, result.stderr
    reports = load_edits(tmp_path / "edits")
    assert list(reports[0]["responses"]) == ["2", "8", REPAINTED] and markdown(edits_tables(reports)) in result.stdout
    pictures = reports[0]["pictures"]
    assert pictures["edited_8"].shape == (6, 64, 64, 3) and (pictures["edited_8"] != pictures["unedited"]).any()
    assert edits_series(reports[0], 4).shape[1] == 4 + 7 * 132
    assert (pictures["sequence_after_1"] != pictures["sequence_after_2"]).any()
    assert edits_sequence(reports[0]).shape[1] == 4 + 10 * 132 and len(reports[0]["in_sequence"]) == 2
    assert [file for _, file in edits_figures(reports)] == ["edits_series_attention.png", "edits_sequence.png"]
    assert "is up to date" in command("src.edits", *arguments).stdout
    assert json.loads(next((tmp_path / "edits").glob("*.json")).read_text())["edit"]["ratio"] == 0
    assert "held-out drawings have a region" in command("src.edits", *arguments, "drawings=99").stderr


def test_the_demos_edit_options_belong_to_no_run() -> None:
    from src.config import compose
    from src.train import NOT_IDENTITY

    assert "edit" in compose().backbone and "backbone.edit." in NOT_IDENTITY
