"""The paper's figures: that each description can be made, and that a made one shows what it says."""

import io
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.backbone.parts import load_backbone
from src.config import CONF, compose, plain
from src.data import openmoji
from src.data.columns import read_index, shard_keys
from src.figures import LIGHT_BYTES, light, make
from src.figures.drawings import drawings
from src.figures.grid import SETTINGS, expand, title
from src.files import UserError, file_sha256
from src.grids import rows_image
from src.methods import Batch, colorize
from src.model.colorizer import load_colorizer
from tests.conftest import ROOT

FIGURES = sorted(path.stem for path in (CONF / "figure").glob("*.yaml"))


def described(figure: str) -> dict[str, Any]:
    return plain(compose([f"figure={figure}", f"backbone.directory={ROOT / 'backbone/demo'}"], "figures"))


@pytest.fixture(scope="module")
def held_out() -> set[str]:
    return set(openmoji.color_keys("val", 2, compose().data.val_share))  # as many variants as scale=demo has


@pytest.mark.parametrize("figure", FIGURES)
def test_descriptions_name_held_out_drawings_settings_and_words_that_there_are(figure: str, held_out: set[str]) -> None:
    values = described(figure)
    own = values["figure"]
    assert f"fig{own['number']}" == figure and own["title"] and own["caption"]
    pairs = own.get("pairs", [])
    keys = [pair[name] for pair in pairs for name in ("sketch", "reference")] + [e["key"] for e in own.get("examples", [])]
    assert held_out >= set(keys)
    if own["kind"] == "grid":
        cells = [{**own["settings"], **r, **c} for r in expand(own.get("rows", [{}])) for c in expand(own["columns"])]
        assert pairs and all(set(cell) == set(SETTINGS) for cell in cells)
        assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
        assert len({title(c, lambda s: s.get("baseline") or s["run"]) for c in expand(own["columns"])}) == len(
            expand(own["columns"])
        )
    edits = [edit for pair in pairs for edit in pair.get("edits", [])] + own.get("examples", [])
    texts = [edit[name] for edit in edits for name in ("target", "anchor", "control", "text") if name in edit]
    vocabulary = load_backbone(values["backbone"]).vocabulary
    assert [word for text in texts for word in vocabulary.unknown(text)] == []


def test_a_sweep_is_every_combination_in_the_order_of_its_settings() -> None:
    sweeps = [{"gs": [1, 3], "sgs": [1, 5]}, {"control_scale": 2}]
    columns = expand(sweeps)
    assert [title(c, None) for c in columns] == [
        "GS-1, SGS-1", "GS-1, SGS-5", "GS-3, SGS-1", "GS-3, SGS-5", "control scale 2",
    ]  # fmt: skip
    assert expand([{}]) == [{}]


@pytest.fixture
def small(tmp_path: Path, data_root: Path, backbone_directory: Path, trained: Path) -> Any:
    """A figure's configuration at two steps, on the test's own drawings and run."""
    keys = [key for shard in shard_keys(read_index(data_root / "val/color")) for key in shard]
    edits = "[{target: red, anchor: blue, control: blue, target_scale: 900},{target: green, control: red, target_scale: 900}]"
    pairs = ",".join(f"{{sketch: '{a}', reference: '{b}', edits: {edits}}}" for a, b in ((keys[0], keys[1]), (keys[2], keys[3])))

    def configured(figure: str, *overrides: str) -> Any:
        own = [f"data.root={data_root}", f"backbone.directory={backbone_directory}", "scale=smoke", f"out={tmp_path / 'out'}"]
        return compose([f"figure={figure}", *own, "sampler.steps=2", "precision=fp32", *overrides], "figures")

    configured.grid = lambda *overrides: configured(  # type: ignore[attr-defined]
        "fig10", f"figure.pairs=[{pairs}]", f"figure.settings.run='{trained}'", "figure.settings.gs=2", *overrides
    )
    return configured


def tile(sheet: np.ndarray, column: int, row: int, rows: int, size: int = 64) -> np.ndarray:
    """A tile of a sheet of zoom 1 without labels."""
    y = sheet.shape[0] - (rows - row) * (size + 4)
    x = 4 + column * (size + 4)
    return sheet[y : y + size, x : x + size]


def made(config: Any) -> tuple[np.ndarray, dict[str, Any]]:
    png, webp, card = make(config)
    assert webp.stat().st_size <= LIGHT_BYTES and Image.open(webp).size == Image.open(png).size
    return np.asarray(Image.open(png)), json.loads(card.read_text())


def test_a_grid_shows_what_its_columns_say(small: Any, data_root: Path, trained: Path) -> None:
    config = small.grid("zoom=1", "figure.columns=[{gs: [1, 3]}]", "figure.pairs.0.edits=[]", "figure.pairs.1.edits=[]")
    sheet, card = made(config)
    assert sheet.shape[1] == 4 + 4 * 68
    own = plain(config)
    pairs = own["figure"]["pairs"]
    found = drawings(data_root, [pair[name] for pair in pairs for name in ("sketch", "reference")])
    backbone = load_backbone(own["backbone"])
    colorizer = load_colorizer(trained / "model", backbone.fingerprint)[0]
    with torch.inference_mode():
        images = [torch.from_numpy(found[pair["reference"]].color.copy()).permute(2, 0, 1) / 127.5 - 1 for pair in pairs]
        tokens = backbone.tokens(torch.stack(images)).numpy()
    batch = Batch(np.stack([found[pair["sketch"]].sketch for pair in pairs]), [0, 1], tokens)
    results = colorize(colorizer, backbone, batch, sampler=own["sampler"], gs=3)
    for row, pair in enumerate(pairs):
        assert np.array_equal(tile(sheet, 0, row, 2)[..., 0], found[pair["sketch"]].sketch)
        assert np.array_equal(tile(sheet, 1, row, 2), found[pair["reference"]].color)
        difference = np.abs(tile(sheet, 3, row, 2).astype(int) - results[row])
        assert difference.max() <= 2 and np.abs(tile(sheet, 2, row, 2).astype(int) - results[row]).max() > 5
    assert card["runs"] == {
        trained.as_posix(): {
            "name": "Shuffle-0 (1 epochs)",
            "sha256": file_sha256(trained / "model.safetensors"),
            "mlflow_run": json.loads((trained / "model.json").read_text())["mlflow_run"],
        }
    }
    assert len(card["data"]) == 2 and card["settings"]["sgs"] == 1 and card["scale"] == "smoke"


def test_a_baseline_stands_beside_ours(small: Any) -> None:
    weights = f"weights.directory={ROOT / 'backbone/demo/baselines'}"
    columns = "figure.columns=[{gs: 1},{baseline: t2i_words, edits: [1, 2]},{baseline: text, baseline_gs: 3}]"
    sheet, card = made(small.grid("zoom=1", columns, weights))
    assert sheet.shape[1] >= 4 + 6 * 68 and len(card["runs"]) == 3
    left = sheet.shape[1] - (4 + 6 * 68)  # the labels
    for row in (0, 1):
        results = [tile(sheet[:, left:], place, row, 2).astype(int) for place in (2, 3, 4, 5)]
        assert all(np.abs(a - b).max() > 5 for a, b in itertools.pairwise(results))
    with pytest.raises(UserError, match="which conf/baseline does not have"):
        made(small.grid("figure.columns=[{baseline: mine}]"))
    with pytest.raises(UserError, match="of no run and no baseline"):
        made(small.grid("figure.settings.run=null"))


def test_weights_of_an_epoch_are_shown_under_the_name_of_their_run(
    small: Any, tmp_path: Path, trained: Path, monkeypatch: Any
) -> None:
    run = tmp_path / "run"
    for epoch in (1, 3):
        shutil.copytree(trained, run / f"epoch-{epoch}")
        card = json.loads((trained / "model.json").read_text())
        (run / f"epoch-{epoch}/model.json").write_text(json.dumps(card | {"name": f"{card['name']}, epoch {epoch}"}))
    titles: list[str] = []
    monkeypatch.setattr("src.figures.grid.rows_image", lambda sheet, *rest: titles.extend(rest[0]) or rows_image(sheet, *rest))
    _, card = made(small.grid(f"figure.columns=[{{run: '{run}', epoch: [1, 3]}}]"))
    assert list(card["runs"]) == [f"{run.as_posix()}/epoch-1", f"{run.as_posix()}/epoch-3"]
    assert titles == ["sketch", "reference", "Shuffle-0 (1 epochs), epoch 1", "Shuffle-0 (1 epochs), epoch 3"]


def test_rows_are_within_pairs_and_inputs_are_shown_once(small: Any) -> None:
    sheet, _ = made(small.grid("zoom=1", "+figure.rows=[{gs: [1, 2, 4]}]", "figure.columns=[{sgs: [1, 2]}]"))
    left = 9 * 12 + 4  # labels
    assert sheet.shape[1] == left + 4 + 4 * 68
    inner = sheet[:, left:]
    assert (tile(inner, 0, 1, 6) == 255).all() and (tile(inner, 1, 2, 6) == 255).all() and (tile(inner, 0, 3, 6) < 255).any()
    assert not np.array_equal(tile(inner, 2, 0, 6), tile(inner, 2, 1, 6))


def test_edits_have_maps_and_grow_with_their_scale(small: Any) -> None:
    columns = "figure.columns=[{edits: 0}, {edits: 1, target_scale: [0, 900]}, {edits: 2}]"
    sheet, _ = made(small.grid("zoom=1", "+figure.maps=2", columns))
    inner = sheet[:, 9 * 12 + 4 :]
    assert inner.shape[1] == 4 + 10 * 68
    pictures = [tile(inner, column, 0, 2) for column in range(10)]
    assert len({picture.tobytes() for picture in pictures}) == 10
    plainly, weakly, strongly = (pictures[place].astype(int) for place in (6, 7, 8))
    assert np.abs(strongly - plainly).sum() > np.abs(weakly - plainly).sum()


def test_without_a_reference_none_is_shown_and_none_matters(small: Any) -> None:
    options = (
        "zoom=1",
        "figure.settings.reference=false",
        "figure.columns=[{gs: 1}]",
        "figure.pairs.0.edits=[]",
        "figure.pairs.1.edits=[]",
    )
    one, _ = made(small.grid(*options))
    assert one.shape[1] == 4 + 2 * 68
    key = small.grid().figure.pairs[1].reference
    other, _ = made(small.grid(*options, f"figure.pairs.0.reference='{key}'"))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["figure.settings.run=${runs}/shuffle/Shuffle-0"],
         r"shows runs/smoke/shuffle/Shuffle-0, which is not there: `dvc repro train@shuffle` makes it, with scale: smoke"),
        (["figure.settings.run=${runs}/dual/Dual-0", "figure.columns=[{epoch: [1, 3]}]"],
         r"Dual-0/epoch-1, which .* `dvc repro train@dual` .* scale: smoke and keep_epochs=\[1,3\] in its sweep"),
        (["figure.settings.run=backbone/elsewhere/noisy"], "`dvc repro pipelines/backbone/dvc.yaml` makes the shipped"),
        (["figure.columns=[{guidance: [1, 2]}]"], "has a setting 'guidance'; there are run, epoch"),
        (["figure.pairs=[{sketch: nobody_0, reference: nobody_0}]"], "has no drawing nobody_0: choose others"),
        (["figure.columns=[{edits: [1, 3]}]"], "shows 3 edits, and its pair of .* has fewer"),
        (["figure.columns=[{noise_level: 3}]"], "noise_level is 3; it must be 0 to 1"),
        (["figure.kind=table"], "figure.kind is 'table'; it is one of grid, dscale, weights"),
        (["figure=fig8"], "has no drawing"),
        (["data.root=nowhere"], "There are no drawings in nowhere/val: `dvc repro sketch` makes them"),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_sentence(small: Any, overrides: list[str], message: str) -> None:
    config = small("fig8") if overrides == ["figure=fig8"] else small.grid(*overrides)
    with pytest.raises(UserError, match=message) as raised:
        make(config)
    assert "\n" not in str(raised.value) and not Path(config.out).exists()


def test_a_light_version_fits() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    best = light(noise, 10**9)
    for limit in (len(best) - 1, 20_000):
        assert len(light(noise, limit)) <= limit
    assert Image.open(io.BytesIO(light(noise, len(best) - 1))).size == (400, 300)  # less sharp before smaller
    assert Image.open(io.BytesIO(light(noise, 20_000))).size < (400, 300)
