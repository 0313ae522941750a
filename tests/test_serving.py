"""A checkpoint as an MLflow model."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from src.files import UserError
from src.recipe import CHUNK, read
from src.sample import colorize
from src.serving import export
from tests.conftest import ROOT

EDITS = [{"target": "red hair", "control": "hair", "target_scale": 8}]


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    from src.config import compose, plain

    demo = ROOT / "backbone/demo"
    return plain(compose([f"backbone.directory={demo}", "sampler.steps=2", "output=x"], "serving"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("served") / "model"
    export(settings | {"output": str(folder)})
    return folder


@pytest.fixture
def request_(tmp_path: Path) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    Image.fromarray((rng.random((90, 60)) > 0.1).astype(np.uint8) * 255).save(tmp_path / "sketch.png")
    Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "reference.png")
    names = ("sketch", "reference")
    return pd.DataFrame([{name: base64.b64encode((tmp_path / f"{name}.png").read_bytes()).decode() for name in names}])


def test_it_gives_the_pictures_of_src_sample(
    served: Path, settings: dict[str, Any], request_: pd.DataFrame, tmp_path: Path
) -> None:
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(str(served))
    files = {key: str(tmp_path / f"{key}.png") for key in ("sketch", "reference", "output")}
    same = {"gs": 3.0, "sgs": 1.5, "seed": 5, "noise_level": 0.25, "size": 48}
    for params, own in (
        ({}, {}),
        (
            {**same, "steps": 3, "edits": json.dumps(EDITS)},
            {**same, "edits": EDITS, "sampler": {**settings["sampler"], "steps": 3}},
        ),
    ):
        (answer,) = model.predict(request_, params=params)["picture"]
        picture = Image.open(io.BytesIO(base64.b64decode(answer)))
        colorize(settings | files | own)
        expected = Image.open(files["output"])
        assert picture.size == expected.size and np.array_equal(np.asarray(picture), np.asarray(expected))
        made, wanted = json.loads(picture.info[CHUNK]), read(Path(files["output"]))
        wanted["config"] |= {"sketch": "sketch.png", "reference": "reference.png"}
        assert made == wanted


def test_a_folder_with_all_that_it_needs_and_no_pickle(served: Path, settings: dict[str, Any]) -> None:
    names = {str(path.relative_to(served)) for path in served.rglob("*") if path.is_file()}
    weights = ("checkpoint/model", "backbone/vae", "backbone/clip")
    assert names >= {f"artifacts/{name}.safetensors" for name in weights} and not any(name.endswith(".pkl") for name in names)
    assert not list(served.parent.glob(".*"))
    with pytest.raises(UserError, match="is there already"):
        export(settings | {"output": str(served)})


def test_a_request_that_cannot_be_answered_is_told_why(served: Path, request_: pd.DataFrame) -> None:
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(str(served))
    text = base64.b64encode(b"hello").decode()
    for cells, params, message in [
        ({"sketch": "/etc/passwd!"}, {}, "sketch is no base64"),
        ({"reference": text}, {}, "reference: not a readable image"),
        ({}, {"gs": 1e9}, "gs is 1000000000.0; it needs to be a number from -1000 to 1000"),
        ({}, {"steps": 0}, "steps is 0"),
        ({}, {"size": 5000}, "size is 5000"),
        ({}, {"edits": "red hair"}, "edits is no list in JSON"),
        ({}, {"edits": '[{"target": "red hair", "target_scale": 8}]'}, "local edits need a control"),
    ]:
        with pytest.raises(MlflowException, match=message):
            model.predict(request_.assign(**cells), params=params)
