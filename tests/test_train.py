"""The training entry point, run as a user runs it."""

from pathlib import Path

from src.backbone.parts import load_card


def test_a_sweep_trains_every_combination_and_repeats_none(command, tmp_path: Path) -> None:
    arguments = ("-m", "model=shuffle,deform", "drop=0,0.8", "epochs=1")
    result = command("src.train", *arguments)
    assert result.returncode == 0, result.stderr
    names = {p.parent.name for p in (tmp_path / "runs/smoke").glob("*/model.safetensors")}
    assert names == {f"{base}-{drop} (1 epochs)" for base in ("Shuffle", "Deform") for drop in ("0", "0.8")}
    card = load_card(tmp_path / "runs/smoke/Shuffle-0.8 (1 epochs)/model")
    assert card["scheme"]["drop_rate"] == 0.8 and card["steps"] == 2
    assert not list(tmp_path.rglob("*.ckpt"))
    again = command("src.train", *arguments)
    assert again.returncode == 0 and again.stdout.count("trained already") == 4
