"""A checkpoint as MLflow serves it: the code of the model that `src.serving` writes, which MLflow runs when it loads the model."""

import base64
import binascii
import hashlib
import json
import threading
from collections.abc import Mapping
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from src.files import UserError
from src.recipe import check, png, recipe

TYPES = {
    "gs": "double",
    "sgs": "double",
    "seed": "long",
    "steps": "long",
    "noise_level": "double",
    "size": "long",
    "edits": "string",
}


def signature(settings: Mapping[str, Any], model: Any) -> Any:
    """What a request holds, and what the parameters that it leaves out are: those of the export's settings.

    model: `src.picture.Model`.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    values = {
        **settings,
        "steps": settings["sampler"]["steps"],
        "noise_level": model.noise_level if settings["noise_level"] == "auto" else settings["noise_level"],
        "size": settings["size"] or model.backbone.size,
        "edits": json.dumps(settings["edits"]),
    }
    floats = {name: float(values[name]) for name, kind in TYPES.items() if kind == "double"}
    return ModelSignature(
        Schema([ColSpec("string", name) for name in ("sketch", "reference")]),
        Schema([ColSpec("string", "picture")]),
        ParamSchema([ParamSpec(name, kind, {**values, **floats}[name]) for name, kind in TYPES.items()]),
    )


class Served(PythonModel):
    """Colours pairs, one after the other, each as `python -m src.sample` does alone."""

    def load_context(self, context: Any) -> None:
        from src.picture import load

        self.settings = context.model_config["settings"]
        own = {"checkpoint": context.artifacts["checkpoint"]}
        backbone = self.settings["backbone"]
        if "backbone" in context.artifacts:
            backbone = {**backbone, "directory": context.artifacts["backbone"]}
        self.model = load({**self.settings, **own, "backbone": backbone})
        self.alone = threading.Lock()  # one picture at a time, however many requests there are

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row a pair: sketch and reference, PNG files (or JPEG, WebP) in base64 -> picture, a PNG file in base64.

        params: of all rows, `TYPES` says which; noise of row i is of seed + i. MlflowException: a sentence about what is wrong.
        """
        try:
            with self.alone:
                rows = zip(model_input["sketch"], model_input["reference"], strict=True)
                pictures = [self._colored(*pair, {**(params or {})}, i) for i, pair in enumerate(rows)]
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return pd.DataFrame({"picture": pictures})

    def _colored(self, sketch: str, reference: str, params: dict[str, Any], row: int) -> str:
        from src.picture import arranged, colored, edited

        files = {"sketch": _decoded(sketch, "sketch"), "reference": _decoded(reference, "reference")}
        sampler = {**self.settings["sampler"], **({"steps": params.pop("steps")} if "steps" in params else {})}
        edits = _edits(params.pop("edits")) if "edits" in params else self.settings["edits"]
        names = {"sketch": "sketch.png", "reference": "reference.png", "start": None}  # in the recipe, which gives their hashes
        settings = {**self.settings, **names, **params, "sampler": sampler, "edits": edits}
        settings["seed"] += row
        check(settings)
        model, _ = edited(self.model, edits, settings["backbone"].get("edit", {}))
        images = {name: _pixels(data, name) for name, data in files.items()}
        drawing = arranged(settings, images, {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}, model)
        (pixels,) = colored([drawing], model)
        return base64.b64encode(png(pixels, recipe(drawing.settings, drawing.sha256, 1))).decode()


def _decoded(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise UserError(f"{name} is no base64: give the bytes of a PNG file in it.") from None


def _pixels(data: bytes, name: str) -> Any:
    from src.data.images import ImageError, from_bytes

    try:
        return from_bytes(data, "L" if name == "sketch" else "RGB")
    except ImageError as error:
        raise UserError(f"{name}: {error}.") from None


def _edits(text: str) -> list[Any]:
    try:
        edits = json.loads(text)
    except (ValueError, RecursionError):
        edits = None
    if not isinstance(edits, list):
        raise UserError('edits is no list in JSON, such as [{"target": "red hair", "control": "hair", "target_scale": 8}].')
    return edits


set_model(Served())
