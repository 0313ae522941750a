"""From a pair to a picture: a model is loaded, a pair is arranged for it, drawings are sampled.

`arranged` and `colored` take and give pixels; `prepare` and `finish` are the same with files at both ends.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from src.data.images import resized, working_size
from src.files import UserError
from src.recipe import INPUTS, recipe, write

MAX_PIXELS = 16_777_216  # of a picture


@dataclass(frozen=True)
class Model:
    """What the pictures of a run have in common: network, backbone and encoded edits.

    noise_level: what `auto` means for this network. multiple: of which both sides of a picture are. sha256: of the weights, and
    the backbone's fingerprint. resolved: the device, the precision, and the words of the edits with nothing left to defaults.
    """

    colorizer: Any
    backbone: Any
    edits: list[Any]
    name: str
    noise_level: float
    multiple: int
    sha256: dict[str, str]
    resolved: dict[str, Any]


def load(settings: Mapping[str, Any]) -> Model:
    from src.backbone.parts import load_backbone
    from src.files import file_sha256
    from src.model.colorizer import load_colorizer

    device = _device(settings["device"])
    precision, dtype = _precision(settings["precision"], device)
    backbone = load_backbone(settings["backbone"])
    checkpoint = Path(settings["checkpoint"])
    colorizer, card = load_colorizer(checkpoint / "model", backbone.fingerprint)
    model = Model(
        colorizer=colorizer.to(device, dtype),
        backbone=backbone.to(device),
        edits=[],
        name=card.get("name", checkpoint.name),
        noise_level=0.5 if card.get("scheme", {}).get("noisy") else 0.0,
        multiple=backbone.size // backbone.latent_size * 2 ** (len(card["network"]["widths"]) - 1),
        sha256={"weights": file_sha256(checkpoint / "model.safetensors"), "backbone": backbone.fingerprint},
        resolved={"device": device, "precision": precision, "edits": []},
    )
    model, warnings = edited(model, settings["edits"], settings["backbone"].get("edit", {}))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return model


def _device(name: str) -> str:
    import torch

    cuda = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if cuda else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ""
    if kind != "cpu" and not (kind == "cuda" and cuda):
        raise UserError(f"There is no device {name!r} here: give device=cpu{' or device=cuda' if cuda else ''}.")
    return name


def _precision(name: str, device: str) -> tuple[str, Any]:
    """The precision by name, `auto` resolved, and as torch's type."""
    import torch

    from src.sampling.batch import PRECISIONS, precision_of

    try:
        dtype = precision_of(name, torch.device(device))
    except ValueError as error:
        raise UserError(str(error)) from None
    return next(known for known, kind in PRECISIONS.items() if kind == dtype), dtype


def edited(model: Model, words: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any]) -> tuple[Model, list[str]]:
    """The model with these edits in place of its own, and a sentence for each text with words that CLIP does not know.

    words: the fields of `Edit`, as texts and numbers; what they leave out is the backbone's `defaults`, then the paper's.
    EditError: as `encode_edits`, or a local edit without a control.
    """
    from dataclasses import fields

    from src.manipulation import Edit, EditError, encode_edits
    from src.manipulation.edits import TEXTS

    specs = [{**defaults, **{name: value for name, value in spec.items() if value is not None}} for spec in words]
    edits = encode_edits(specs, model.backbone.text)
    vocabulary = model.backbone.vocabulary
    unknown_words: Callable[[str], list[str]] = getattr(vocabulary, "unknown", lambda text: [])  # public ones know all
    warnings = []
    for number, (edit, spec) in enumerate(zip(edits, specs, strict=True), 1):
        if model.colorizer.kind == "attention" and edit.control is None:
            raise EditError(f'Edit {number}: local edits need a control: a text that says where, or "everything".')
        for name in TEXTS:
            text = spec.get(name)
            if text and not isinstance(getattr(edit, name), str) and (unknown := unknown_words(text)):
                warnings.append(f"edit {number}: CLIP does not know {', '.join(unknown)} in its {name}")
    rest = [field.name for field in fields(Edit) if field.name not in TEXTS]
    kept = [
        {name: spec[name] for name in TEXTS if name in spec} | {name: getattr(edit, name) for name in rest}
        for edit, spec in zip(edits, specs, strict=True)
    ]
    resolved = {**model.resolved, "edits": [{**one, "thresholds": list(one["thresholds"])} for one in kept]}
    return replace(model, edits=edits, resolved=resolved), warnings


@dataclass(frozen=True)
class Drawing:
    """A picture to be made: its settings with nothing left open, hashes of its files, and their pixels.

    sketch uint8 [h, w] at the picture's size, reference uint8 [H, W, 3] at the backbone's; uint8 [h, w, 3] or None: start, and
    style, the reference at the picture's size.
    """

    settings: dict[str, Any]
    sha256: dict[str, str]
    sketch: np.ndarray
    reference: np.ndarray
    start: np.ndarray | None
    style: np.ndarray | None

    @property
    def group(self) -> str:
        """Drawings of one group may be sampled at once."""
        own = {"seed", "output", *INPUTS}
        same = {key: value for key, value in self.settings.items() if key not in own}
        return json.dumps([same, self.sketch.shape, self.start is None])


def prepare(settings: Mapping[str, Any], model: Model) -> Drawing:
    """Reads the files of one picture and arranges it. UserError where one cannot be read, and as `arranged`."""
    images, sha256 = {}, {}
    for key in INPUTS:
        if settings[key] is not None:
            images[key], sha256[key] = open_image(Path(settings[key]), "L" if key == "sketch" else "RGB")
    return arranged(settings, images, sha256, model)


def arranged(settings: Mapping[str, Any], images: Mapping[str, np.ndarray], sha256: Mapping[str, str], model: Model) -> Drawing:
    """The pixels of one picture, scaled for the model.

    images: sketch uint8 [H, W], reference and, if there is one, start uint8 [H, W, 3], each of its own size. sha256: of the files
    that they are from, for the recipe; whoever writes none leaves it empty. UserError: a picture of too many pixels.
    """
    from src.data.scans import clean_scan

    size = model.backbone.size
    resolved = {
        **model.resolved,
        "size": size if settings["size"] is None else settings["size"],
        "noise_level": model.noise_level if settings["noise_level"] == "auto" else settings["noise_level"],
    }
    sketch = clean_scan(images["sketch"]) if settings["clean"] else images["sketch"]
    height, width = working_size(sketch.shape[0], sketch.shape[1], resolved["size"], model.multiple)
    if height * width > MAX_PIXELS:
        raise UserError(f"{settings['sketch']} would be coloured at {width} x {height} pixels, which is too many: lower size=.")
    return Drawing(
        {**settings, **resolved},
        {**model.sha256, **sha256},
        resized(sketch, height, width),
        resized(images["reference"], size, size),
        resized(images["start"], height, width) if "start" in images else None,
        resized(images["reference"], height, width) if settings["style"]["injection"] or settings["style"]["adain"] else None,
    )


def finish(batch: Sequence[Drawing], model: Model) -> None:
    """Samples and writes drawings of one group.

    All but the sampling is done for one drawing after the other. The sampling of a drawing depends on the others in its last
    digits alone, and on their number, not on what they are. So a single picture that is to be repeated exactly is sampled with
    as many copies of itself as there were drawings.
    """
    drawings = list(batch) * (batch[0].settings.get("copies", 1) if len(batch) == 1 else 1)
    for drawing, pixels in zip(batch, colored(drawings, model), strict=False):
        path = Path(drawing.settings["output"])
        write(path, pixels, recipe(drawing.settings, drawing.sha256, len(drawings)))
        print(f"{path}: {pixels.shape[1]} x {pixels.shape[0]}, {model.name}", flush=True)


def colored(drawings: Sequence[Drawing], model: Model, progress: Callable[[int, Any], None] | None = None) -> Iterator[np.ndarray]:
    """The drawings of one group, sampled at once: uint8 [h, w, 3] each, decoded when it is asked for.

    progress: see `sample`. UserError: an option that this sampler or model does not have.
    """
    import torch

    from src.data.lines import xdog
    from src.manipulation import edit_tokens
    from src.sampling.sampler import sample
    from src.sampling.style import Style

    settings, backbone = drawings[0].settings, model.backbone
    options = {**settings["sampler"], "guidance": tuple(settings["guidance"])}
    options |= {
        key: settings[key] for key in ("gs", "sgs", "sketch_negative", "control_scale", "noise_level", "strength", "start_strength")
    }
    with torch.inference_mode():
        tokens = torch.cat([backbone.tokens(_image(d.reference, backbone)) for d in drawings])
        if model.edits:
            tokens = edit_tokens(tokens, model.edits, model.colorizer.kind)
        if start := [backbone.encode(_image(d.start, backbone))[0] for d in drawings if d.start is not None]:
            options["start"] = torch.cat(start)
        if style := [d.style for d in drawings if d.style is not None]:
            latent = torch.cat([backbone.encode(_image(reference, backbone))[0] for reference in style])
            options["style"] = Style(latent, _lines([xdog(reference) for reference in style], backbone), **settings["style"])
        try:
            latents = sample(
                model.colorizer,
                _lines([d.sketch for d in drawings], backbone),
                tokens,
                [d.settings["seed"] for d in drawings],
                latent_channels=backbone.latent_channels,
                factor=backbone.size // backbone.latent_size,
                progress=progress,
                **options,
            )
        except ValueError as error:
            raise UserError(str(error)) from error
    for latent in latents:
        yield decoded(latent, model)


def decoded(latent: Any, model: Model) -> np.ndarray:
    """A latent [C, h, w], also the estimate of a step under way, as uint8 [H, W, 3]."""
    import torch

    with torch.inference_mode():
        return model.backbone.decode(latent[None])[0].cpu().numpy()


def _image(pixels: Any, backbone: Any) -> Any:
    """uint8 [H, W, 3] as the backbone reads it, [1, 3, H, W]."""
    import torch

    from src.backbone.parts import to_input

    return to_input(torch.from_numpy(pixels)[None]).to(next(backbone.vae.parameters()).device)


def _lines(sketches: Sequence[np.ndarray], backbone: Any) -> Any:
    """Sketches, each uint8 [H, W], as the network reads them, [B, 3, H, W]."""
    import torch

    from src.backbone.parts import sketch_to_input

    return sketch_to_input(torch.from_numpy(np.stack(sketches))).to(next(backbone.vae.parameters()).device)


def open_image(path: Path, mode: str) -> tuple[np.ndarray, str]:
    """uint8 pixels of a file that the user named, and its sha256. UserError where it is missing or no image."""
    from src.data.images import ImageError, from_bytes

    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no file.")
        data = path.read_bytes()
        return from_bytes(data, mode), hashlib.sha256(data).hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    except ImageError as error:
        raise UserError(f"{path}: {error}.") from None
