"""The recipe of a picture: all that it was made from and how, as a text in its PNG file, from which it can be made again.

A recipe may come from a stranger, so it is data: checked against rules, never evaluated, and of limited size.
"""

import io
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.config import CONF, compose, plain
from src.files import UserError, file_sha256, write_atomically

FORMAT = 1
CHUNK = "colorize.recipe"
LIMIT = 100_000  # characters

Rule = tuple[Callable[[Any], bool], str]


def _number(low: float, high: float) -> Rule:
    return (lambda v: type(v) in {int, float} and low <= v <= high), f"a number from {low:g} to {high:g}"


def _whole(low: int, high: int) -> Rule:
    return (lambda v: type(v) is int and low <= v <= high), f"a whole number from {low} to {high}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and not any(unicodedata.category(c) == "Cc" for c in value)


def _or(other: Any, rule: Rule) -> Rule:
    return (lambda v: v == other or rule[0](v)), f"{'null' if other is None else other}, or {rule[1]}"


def _list_of(rule: Rule, what: str) -> Rule:
    return (lambda v: isinstance(v, list) and all(map(rule[0], v))), what


TEXT: Rule = (_is_text, "a text")
PATH: Rule = (_is_text, "a path")
SWITCH: Rule = ((lambda v: isinstance(v, bool)), "true or false")
SHARE, SCALE = _number(0, 1), _number(-1000, 1000)

# All of the configuration that makes a picture. (Of the backbone its name and directory say which; its hash says that it is.)
RULES: dict[str, Rule] = {
    "backbone.name": TEXT,
    "backbone.directory": PATH,
    "sampler.solver": TEXT,
    "sampler.sigmas": TEXT,
    "sampler.final": TEXT,
    "sampler.steps": _whole(1, 1000),
    "checkpoint": PATH,
    "sketch": PATH,
    "reference": PATH,
    "edits": _list_of(((lambda v: isinstance(v, dict)), ""), "a list of edits, or the path of a YAML file with one"),
    "clean": SWITCH,
    "size": _or(None, _whole(16, 4096)),
    "seed": _whole(0, 2**63 - 1),
    "gs": SCALE,
    "sgs": SCALE,
    "guidance": (lambda v: _list_of(SHARE, "")[0](v) and len(v) == 2 and v[0] <= v[1], "two numbers from 0 to 1, the lower first"),
    "sketch_negative": TEXT,
    "control_scale": SCALE,
    "noise_level": _or("auto", SHARE),
    "strength": (lambda v: SCALE[0](v) or _list_of(SCALE, "")[0](v), "a number, or a list of numbers"),
    "start": _or(None, PATH),
    "start_strength": SHARE,
    "style.injection": SWITCH,
    "style.adain": _list_of(TEXT, "a list of U-Net blocks"),
    "style.fidelity": SHARE,
    "style.begin": SHARE,
    "device": TEXT,
    "precision": TEXT,
}
BATCH = _whole(1, 256)
INPUTS = ("sketch", "reference", "start")
HASHES = {"weights", "backbone", *INPUTS}


def check(settings: Mapping[str, Any], where: str = "") -> None:
    """UserError for the first value that breaks its rule; `where` begins the sentence."""
    rules = {**RULES, "batch": BATCH}
    for key, value in _flat(settings).items():
        if key in rules and not rules[key][0](value):
            raise UserError(f"{where}{key} is {_short(value)}; it needs to be {rules[key][1]}.")


def recipe(settings: Mapping[str, Any], sha256: Mapping[str, str], batch: int) -> dict[str, Any]:
    """The recipe of a picture, in JSON's types.

    sha256: of the bytes of each input there is, of the `weights`, and the fingerprint of the `backbone`. batch: how many drawings
    were sampled at once, on which the last digits of a sum depend, and with them now and then a pixel.
    """
    values = _flat(settings)
    config: dict[str, Any] = {}
    for key in RULES:
        if key in values:
            _set(config, key, values[key])
    return {"format": FORMAT, "config": config, "sha256": dict(sha256), "batch": batch}


def png(image: NDArray[np.uint8], made: Mapping[str, Any]) -> bytes:
    """The PNG file of an image [H, W, 3] with its recipe."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info, buffer = PngInfo(), io.BytesIO()
    info.add_itxt(CHUNK, json.dumps(made))
    Image.fromarray(image).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def write(path: Path, image: NDArray[np.uint8], made: Mapping[str, Any]) -> None:
    """Writes `png`. UserError where it cannot be written."""
    data = png(image, made)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda f: f.write(data))
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}).") from None


def is_made(path: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether `path` is a picture by this very recipe, in a batch of any size."""
    try:
        return {**read(path), "batch": None} == {**json.loads(json.dumps(wanted)), "batch": None}
    except UserError:
        return False


def read(path: Path) -> dict[str, Any]:
    """The recipe in a PNG file. UserError where there is none, or one that this version did not write."""
    from PIL import Image

    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    try:
        with Image.open(path, formats=["PNG"]) as image:  # reads no pixels
            text = image.info.get(CHUNK)
    except Exception as error:  # Pillow raises many kinds for broken files
        raise UserError(f"{path} is no readable PNG file ({error}).") from None
    if not isinstance(text, str):
        raise UserError(f"{path} has no recipe: give a PNG that was made here and that no other program has saved since.")
    return _parsed(text, f"The recipe in {path} cannot be used: ")


def _parsed(text: str, where: str) -> dict[str, Any]:
    if len(text) > LIMIT:
        raise UserError(f"{where}it has more than {LIMIT} characters.")
    try:
        values = json.loads(text, parse_int=_int)
    except (ValueError, RecursionError):
        raise UserError(f"{where}it is no JSON.") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{where}its format is not {FORMAT}, the one that this version knows.")
    config, sha256 = values.get("config"), values.get("sha256")
    if not isinstance(config, dict) or not isinstance(sha256, dict) or not BATCH[0](values.get("batch")):
        raise UserError(f"{where}config, sha256 or batch is missing or no such thing.")
    if unknown := [*(values.keys() - {"format", "config", "sha256", "batch"}), *(_flat(config).keys() - RULES.keys())]:
        raise UserError(f"{where}it has an unknown key, {_short(unknown[0])}.")
    check(config, where)
    needed = HASHES if config.get("start") else HASHES - {"start"}
    if sha256.keys() != needed or not all(map(_is_text, sha256.values())):
        raise UserError(f"{where}its sha256 need to be those of {', '.join(sorted(needed))}.")
    return values


def repeated(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The settings of the picture `path`, with those of the command line (Hydra's overrides) in place of the recipe's own.

    UserError where what the recipe names is missing or is not what it was.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    made = read(path)
    values, sha256 = _flat(made["config"]), made["sha256"]
    given = [override.key_or_group for override in OverridesParser.create().parse_overrides(list(overrides))]
    if "pairs" in given:
        given += ["sketch", "reference"]
    name = values.get("backbone.name")
    if "backbone" not in given and name is not None:
        if name not in {file.stem for file in (CONF / "backbone").glob("*.yaml")}:
            raise UserError(f"{path} was made with the backbone {_short(name)}, which conf/backbone does not have: give backbone=.")
        overrides = [f"backbone={name}", *overrides]
    settings = plain(compose(overrides, "sample"))
    kept = {key: value for key, value in values.items() if not any(f"{key}.".startswith(f"{g}.") for g in given)}
    for key, value in kept.items():
        _set(settings, key, value)
    for key in INPUTS:
        if kept.get(key) is not None:
            _same(path, key, Path(kept[key]), sha256[key])
    if "checkpoint" in kept:
        _same(path, "checkpoint", Path(kept["checkpoint"]) / "model.safetensors", sha256["weights"])
    if not any(g.split(".")[0] == "backbone" for g in given):
        from src.backbone.parts import fingerprint

        if fingerprint(settings["backbone"]) != sha256["backbone"]:
            raise UserError(
                f"{path} was made with other weights of the backbone {name}: give backbone.directory= or backbone.parts=."
            )
    return settings | {"copies": made["batch"]}


def _same(path: Path, key: str, file: Path, sha256: str) -> None:
    if not file.is_file():
        raise UserError(f"{path} was made from {file}, which is not there: give {key}=<where it is now>.")
    if file_sha256(file) != sha256:
        raise UserError(
            f"{file} has changed since {path} was made from it: give {key}=<path> to take it, or another one, all the same."
        )


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted keys, of two levels."""
    result = {}
    for key, value in config.items():
        result.update({f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value})
    return result


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    group, dot, inner = key.partition(".")
    if dot:
        config.setdefault(group, {})[inner] = value
    else:
        config[key] = value


def _int(digits: str) -> int:
    if len(digits) > 19:
        raise ValueError("more than 64 bits")
    return int(digits)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
