"""Names in the paper's spelling, one configuration one name."""

import itertools
import json
from pathlib import Path

import pytest

from src.config import compose
from src.model.naming import run_name


def config(model: str = "shuffle", drop: float = 0, noisy: bool = False, dual: float = 0, epochs: int = 0, seed: int = 0) -> dict:
    default = 7 if model == "cls" else 5
    model_config = {"name": model, "epochs": default}
    return {"model": model_config, "drop": drop, "noisy": noisy, "dual": dual, "epochs": epochs or default, "seed": seed}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"model": "deform", "drop": 0.75}, "Deform-0.75"),
        ({"drop": 0.5}, "Shuffle-0.5"),
        ({"noisy": True}, "Noisy-0"),
        ({"noisy": True, "epochs": 7}, "Noisy-0 (7 epochs)"),
        ({"dual": 4}, "Dual-0"),
        ({"dual": 2}, "Dual-0 (lambda 2)"),
        ({"dual": 4, "noisy": True, "model": "deform"}, "Deform-Noisy-Dual-0"),
        ({"model": "cls"}, "CLS-0"),
        ({"seed": 3}, "Shuffle-0 (seed 3)"),
    ],
)
def test_names(options: dict, name: str) -> None:
    assert run_name(config(**options)) == name


def test_the_papers_rows_all_have_a_configuration() -> None:
    rows = json.loads((Path(__file__).parents[2] / "src/paper_tables.json").read_text())["table1"]["rows"]
    grid = itertools.product(("shuffle", "deform", "cls"), (0, 0.5, 0.75, 0.8), (False, True), (0, 4), (5, 7))
    assert set(rows) <= {run_name(config(m, drop=d, noisy=n, dual=lam, epochs=e)) for m, d, n, lam, e in grid}


def test_two_configurations_never_share_a_name() -> None:
    grid = list(itertools.product(("shuffle", "deform", "cls"), (0, 0.1, 0.75, 1), (False, True), (0, 1, 2, 4), (3, 5, 7), (0, 1)))
    names = [run_name(config(m, d, n, lam, e, s)) for m, d, n, lam, e, s in grid]
    assert len(set(names)) == len(names)


def test_whatever_else_differs_from_its_groups_is_in_the_name() -> None:
    from src.train import name_of

    assert name_of(compose(["scale=smoke", "drop=0.5", "data.root=elsewhere", "scale.grid=3"])) == "Shuffle-0.5"
    changed = ["scale.batch=4", "scale.loss.prediction=v", "model.tokens=tokens_deform"]
    name = "Shuffle-0 (model.tokens tokens_deform, scale.batch 4, scale.loss.prediction v)"
    assert name_of(compose(["scale=smoke", *changed])) == name
