"""Which pictures a command line, a CSV file or folders ask for."""

from pathlib import Path
from typing import Any

import pytest

from src.config import compose, plain
from src.files import UserError
from src.pairs import COLUMNS, pictures
from src.recipe import RULES

SETTINGS = plain(compose([], "sample"))


def asked(**values: Any) -> list[dict[str, Any]]:
    return pictures(SETTINGS | {key: str(value) if isinstance(value, Path) else value for key, value in values.items()})


def csv(tmp_path: Path, text: str) -> Path:
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    return tmp_path / "list.csv"


def folder(path: Path, *names: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (path / name).touch()
    return path


def names(made: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [tuple(Path(one[key]).name for key in ("sketch", "reference", "output")) for one in made]


def test_one_pair() -> None:
    (one,) = asked(sketch="a.jpg", reference="b.png", output="here/c.PNG")
    assert one == SETTINGS | {"sketch": "a.jpg", "reference": "b.png", "output": "here/c.PNG"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "Say sketch=<path> and reference=<path>, or pairs=<path>"),
        ({"sketch": "a.png"}, "Say reference=<path>, or"),
        ({"sketch": "a.png", "reference": "b.png", "output": None}, "Say output=<path>"),
        ({"sketch": "a.png", "reference": "b.png", "output": "c.jpg"}, "'c.jpg' is no name of a PNG file"),
        ({"sketch": "a.png", "reference": "b.png", "output": "./a.png"}, "./a.png is what a picture is made from"),
        ({"sketch": "a.png", "pairs": "list.csv"}, "Give either pairs=, or"),
        ({"pairs": "none.csv"}, "none.csv cannot be read"),
        ({"sketch": "a.png", "reference": "b.png", "output": "c.png", "gs": "much"}, "gs is 'much'; it needs to be a number"),
        ({"sketch": "a.png", "reference": "b.png", "output": "c.png", "batch": 0}, "batch is 0; it needs"),
    ],
)
def test_what_cannot_be_asked(values: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        asked(**{"output": "out.png", **values})


def test_a_csv_file(tmp_path: Path) -> None:
    text = "\ufeffsketch, reference, output, seed, gs, noise_level, clean, start\n"
    text += "a.png, refs/b.png, , 7, , auto, true,\n"
    text += '"with, comma.jpg", /abs/b.png, sub/c.png, , 1.5, 0.25, , s.png\n\n'
    first, second = asked(pairs=csv(tmp_path, text), output=tmp_path / "out")
    assert first == SETTINGS | {
        "pairs": f"{tmp_path}/list.csv", "sketch": f"{tmp_path}/a.png", "reference": f"{tmp_path}/refs/b.png",
        "output": f"{tmp_path}/out/a.png", "seed": 7, "noise_level": "auto", "clean": True,
    }  # fmt: skip
    assert (second["sketch"], second["reference"]) == (f"{tmp_path}/with, comma.jpg", "/abs/b.png")
    assert (second["output"], second["start"]) == (f"{tmp_path}/out/sub/c.png", f"{tmp_path}/s.png")
    assert (second["seed"], second["gs"], second["noise_level"], second["clean"]) == (0, 1.5, 0.25, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column sketch and reference"),
        ("sketch;reference\na;b\n", "no column sketch and reference"),
        ("sketch,reference\n", "list.csv has no pairs"),
        ("sketch,reference,edits\na.png,b.png,c\n", "a column 'edits'"),
        ("sketch,reference\na.png\n", "line 2: it has another number of cells"),
        ("sketch,reference\na,b.png,c.png\n", "line 2: it has another number of cells"),
        ("sketch,reference\na.png,b.png\n,b.png\n", "line 3: it has no sketch"),
        ("sketch,reference,gs\na.png,b.png,high\n", "line 2: gs is 'high'; it needs to be a number"),
        ("sketch,reference,seed\na.png,b.png,1.5\n", "line 2: seed is 1.5; it needs to be a whole number"),
        ("sketch,reference,gs\na.png,b.png,nan\n", "line 2: gs is nan"),
        ("sketch,reference,start\na.png,b.png,x\0y\n", "line 2: start is"),
        ("sketch,reference,output\na.png,b.png,x\0.png\n", r"line 2: .*x\\x00.png' is no name of a PNG"),
        ("sketch,reference,output\na.png,b.png,c.jpg\n", "c.jpg' is no name of a PNG file"),
        ("sketch,reference,output\na.png,b.png,../c.png\n", r"line 2: .*out/../c.png lies outside"),
        ("sketch,reference,output\na.png,b.png,/tmp/c.png\n", "line 2: /tmp/c.png lies outside"),
        ("sketch,reference,output\na.png,b.png,link/c.png\n", "line 2: .*link/c.png lies outside"),
        ("sketch,reference\na.png,b.png\nother/a.png,b.png\n", r"line 3: .*a.png is the output of .*list.csv, line 2, too"),
        ("sketch,reference\nout/a.png,b.png\n", "line 2: .*out/a.png is what a picture is made from"),
        ('sketch,reference\n"a.png,b.png\n', "no CSV file"),
    ],
)
def test_a_csv_file_that_cannot_be_meant(tmp_path: Path, text: str, message: str) -> None:
    (folder(tmp_path / "out") / "link").symlink_to(folder(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match=message):
        asked(pairs=csv(tmp_path, text), output=tmp_path / "out")


def test_the_columns_are_of_one_value() -> None:
    assert set(COLUMNS) < RULES.keys() and not any(isinstance(SETTINGS[name], list | dict) for name in COLUMNS)


def test_folders(tmp_path: Path) -> None:
    sketches = folder(tmp_path / "pairs/sketch", "b.png", "a.v1.JPG", "notes.txt", ".hidden.png")
    references = folder(tmp_path / "pairs/reference", "a.v1.webp", "b.png", "more.png")
    wanted = [("a.v1.JPG", "a.v1.webp", "a.v1.png"), ("b.png", "b.png", "b.png")]
    assert names(asked(pairs=tmp_path / "pairs", output=tmp_path / "out")) == wanted
    assert names(asked(sketch=sketches, reference=references, output=tmp_path / "out")) == wanted
    one = asked(sketch=sketches, reference=references / "more.png", output=tmp_path / "out", seed=4)
    assert names(one) == [("a.v1.JPG", "more.png", "a.v1.png"), ("b.png", "more.png", "b.png")]
    assert [p["seed"] for p in one] == [4, 4] and one[0]["output"] == f"{tmp_path}/out/a.v1.png"


def test_folders_that_cannot_be_meant(tmp_path: Path) -> None:
    sketches, references = folder(tmp_path / "s", "a.png", "b.png"), folder(tmp_path / "r", "a.png", "a.jpg")
    file, out = folder(tmp_path, "x.png") / "x.png", tmp_path / "out"
    for values, message in [
        ({"pairs": tmp_path}, "There is no .*sketch"),
        ({"sketch": sketches, "reference": references}, r"a.png and a.jpg have one stem"),
        ({"sketch": sketches, "reference": folder(tmp_path / "r2", "a.png")}, r"b.png has no reference: there is no .*r2/b "),
        ({"sketch": folder(tmp_path / "s2", "a.png", "a.jpg"), "reference": file}, r"s2/a.png: .*a.png is the output of .*a.jpg"),
        ({"sketch": folder(tmp_path / "empty"), "reference": file}, "empty has no pairs"),
        ({"sketch": file, "reference": references}, "give one reference, or a folder of sketches"),
        ({"sketch": sketches, "reference": tmp_path / "none.png"}, "There is no .*none.png"),
        ({"sketch": sketches, "reference": file, "output": file}, "x.png is a file; the pictures of several pairs need a folder"),
        ({"sketch": sketches, "reference": file, "output": sketches}, "s/a.png is what a picture is made from"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=message):
            asked(**{"output": out, **values})
