"""What is refused before the app starts, and before a picture is decoded."""

import os
from pathlib import Path

import pytest
from PIL import Image

from src.app.__main__ import main
from src.app.safety import MAX_BYTES, login, look_at, read_picture
from src.files import UserError


@pytest.mark.parametrize("arguments", [["--share"], ["--host", "0.0.0.0"], ["--host", "192.168.1.5"]])
def test_others_need_a_password(arguments: list[str], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLORIZE_PASSWORD", "GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, os.environ.get(name, "") if name != "COLORIZE_PASSWORD" else "")
    assert main(arguments) == 1
    assert "give a password" in capsys.readouterr().err


def test_a_password_is_compared_whole() -> None:
    check = login("0.0.0.0", False, "geheim ü")
    assert check("anybody", "geheim ü") and not check("anybody", "geheim") and not check("anybody", "")
    assert login("127.0.0.1", False, None) is None


def test_pictures_are_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    Image.new("1", (40_000, 10)).save(tmp_path / "uploads/wide.png")
    Image.new("1", (40_000, 2_000)).save(tmp_path / "uploads/bomb.png")
    Image.new("1", (900, 100)).save(tmp_path / "uploads/thin.png")
    Image.new("RGBA", (8, 8)).save(tmp_path / "uploads/clear.png")
    Image.new("1", (8, 8)).save(tmp_path / "outside.png")
    (tmp_path / "uploads/link.png").symlink_to(tmp_path / "outside.png")
    (tmp_path / "uploads/text.png").write_text("hello")
    with (tmp_path / "uploads/large.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for name, words in {
        "wide.png": "40000 x 10 pixels", "bomb.png": "too many pixels",
        "thin.png": "too long and thin", "text.png": "no picture that can be read",
        "large.png": "too large", "link.png": "not uploaded here", "../outside.png": "not uploaded here", "": "not uploaded here",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=words):
            look_at(tmp_path / "uploads" / name)
    look_at(tmp_path / "uploads/clear.png")
    assert (read_picture(str(tmp_path / "uploads/clear.png")) == 255).all()
    data = (tmp_path / "uploads/clear.png").read_bytes()
    (tmp_path / "uploads/cut.png").write_bytes(data[:45])
    with pytest.raises(UserError, match="cannot be read"):
        read_picture(str(tmp_path / "uploads/cut.png"))
