"""Somebody's own drawings through the stages, as `dvc repro` runs them."""

import json
from pathlib import Path

import pytest

from pipelines import column
from src.data import openmoji
from src.data.columns import Column, verify
from src.data.images import encode, from_bytes, image_in
from src.files import UserError
from tests.conftest import ROOT

FORMATS = ("png", "jpg", "webp")


@pytest.fixture
def drawings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty real drawings in a tree with spaces in its names, captioned, and a file that is none."""
    monkeypatch.chdir(ROOT)
    root = tmp_path / "my drawings, [2024]=new"
    for number, drawing in enumerate(openmoji.drawings()[:1500:50]):
        path = root / ("people" if number % 2 else "things") / f"{drawing.identity}.{FORMATS[number % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(openmoji.render(drawing, 0, 200, 0).color, FORMATS[number % 3]))
        path.with_suffix(".txt").write_text(drawing.name)
    (root / "things" / "notes.png").write_text("no drawing")
    return root


def stage(name: str, split: str, drawings: Path, *more: str) -> None:
    out = drawings.parent / "out"
    given = [f"data.source.images={drawings}", f"data.root={out}", "data.val_share=0.3", "data.rows_per_shard=8"]
    column.main([name, split, "scale=demo", "data=folder", *given, *more])


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_of_drawings_becomes_triples(format: str, drawings: Path) -> None:
    for split in ("train", "val"):
        for name in ("color", "sketch", "reference"):
            stage(name, split, drawings, f"data.encode.format={format}")
    out = drawings.parent / "out"
    counts = [verify(out / split / name, out / split / "color") for split in ("train", "val") for name in ("sketch", "reference")]
    assert counts[0] + counts[2] == 30 and min(counts) > 0
    for split in ("train", "val"):
        assert {path.name for path in (out / split).iterdir()} == {"color", "sketch", "reference"}  # nothing left over
        for (_, color), (_, sketch), (_, reference) in zip(
            *(Column(out / split / n) for n in ("color", "sketch", "reference")), strict=True
        ):
            assert set(color) == {format, "json"} and json.loads(color["json"])["path"].split("/")[0] in {"people", "things"}
            pixels = from_bytes(image_in(color))
            lines = from_bytes(sketch["png"], "L")
            assert pixels.shape == from_bytes(reference["png"]).shape == (*lines.shape, 3) == (64, 64, 3)
            assert lines.mean() > 128  # dark lines on white
    quarantined = [json.loads(line) for p in out.rglob("quarantine.jsonl") for line in p.read_text().splitlines()]
    assert [entry["reason"] for entry in quarantined] == ["things/notes.png: not a readable image (no known format)"]


def test_building_again_makes_nothing_and_a_new_caption_makes_its_column(drawings: Path) -> None:
    stage("color", "train", drawings)
    out = drawings.parent / "out" / "train" / "color"
    first = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("*.tar")}
    stage("color", "train", drawings)
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("*.tar")} == first
    for text in drawings.rglob("*.txt"):
        text.write_text("something else")
    stage("color", "train", drawings)
    assert {json.loads(sample["json"])["caption"] for _, sample in Column(out)} == {"something else"}


def test_a_dry_run_counts_and_writes_nothing(drawings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage("color", "train", drawings, "--dry-run", "data.source.extensions=[png,jpg]", "scale.drawings.val=3")
    lines = {name.strip(): int(count) for name, count in (line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines())}
    assert lines["read"] == 31 and lines["- another extension"] == -10 and lines["val"] == 3
    assert sum(count for name, count in lines.items() if name not in {"train", "val"}) == lines["train"] + lines["val"]
    assert not (drawings.parent / "out").exists()
    with pytest.raises(UserError, match=r"data=openmoji has no filters"):
        column.main(["color", "train", "data=openmoji", "--dry-run"])
    given = [f"data.source.metadata=[{drawings.parent}/a.json,{drawings.parent}/b.json]", f"data.source.images={drawings}"]
    with pytest.raises(UserError, match=r"a\.json: no metadata there"):
        column.main(["color", "train", "data=danbooru2021", "--dry-run", *given])
    with pytest.raises(UserError, match=r"Give data\.source\.metadata=\.\.\. and|Give data\.source\.images=\.\.\. and"):
        column.main(["color", "train", "data=danbooru2021", "--dry-run"])
