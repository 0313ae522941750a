"""The pictures that volunteers rate."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from src.app.preparation import prepare
from src.app.study import ITEMS, open_study
from src.config import compose, plain
from src.files import UserError
from tests.conftest import ROOT


@pytest.fixture
def values(tmp_path: Path, data_root: Path) -> dict[str, Any]:
    """The configuration for four pairs and the shipped CLS model; the tokens are its own backbone's."""
    split = tmp_path / "data/val"
    split.mkdir(parents=True)
    for column in ("color", "sketch"):
        (split / column).symlink_to(data_root / "val" / column)
    demo = ROOT / "backbone/demo"
    places = [f"backbone.directory={demo}", f"data.root={tmp_path / 'data'}", f"out={tmp_path / 'items'}"]
    settings = plain(compose([*places, "pairs=4", "batch=3", "sampler.steps=2"], "rating"))
    return settings | {"checkpoints": [str(demo / "cls")]}


def test_items_are_made_the_same_each_time_and_say_not_whose_they_are(values: dict[str, Any], tmp_path: Path) -> None:
    items = prepare(values)
    assert len(items) == len({item.pair for item in items}) == 4 and {item.model for item in items} == {"CLS-0.1 (28 epochs)"}
    assert all(" instead of " in item.words and item.result != item.edited for item in items)
    out = tmp_path / "items"
    names = {path.name for path in out.iterdir()}
    assert not any("CLS" in name for name in names)
    (out / "0123456789abcdef0123456789abcdef.png").write_bytes(b"of an earlier preparation")
    assert prepare(values) == items and {path.name for path in out.iterdir()} == names
    assert open_study(tmp_path / "ratings.db", out).items.keys() == {item.id for item in items}


def test_another_methods_pictures_of_the_exported_pairs(values: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "export"
    assert prepare({**values, "export": str(folder)}) == [] and not (tmp_path / "items").exists()
    assert (folder / "edits.csv").read_text().count(" instead of ") == 4
    shutil.copytree(folder / "truth", tmp_path / "oracle/edited")
    others = {"Truth": str(folder / "truth")}
    items = prepare({**values, "checkpoints": [], "others": others})
    assert len(items) == 4 and all(item.edited is None and item.words == "" and len(item.questions) == 3 for item in items)
    (folder / "truth" / f"{items[0].pair}.png").unlink()
    with pytest.raises(UserError, match="has no picture"):
        prepare({**values, "checkpoints": [], "others": others})


def test_what_cannot_be_prepared_is_said(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="Two models are called"):
        prepare({**values, "checkpoints": values["checkpoints"] * 2})
    with pytest.raises(UserError, match=r"lower pairs=, or give edit\.colours"):
        prepare({**values, "pairs": 27})
    edit = {**values["edit"], "colours": []}
    items = prepare({**values, "edit": edit})
    assert {item.edited for item in items} == {None}
    assert json.loads((Path(values["out"]) / ITEMS).read_text())["seed"] == 0
