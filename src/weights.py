"""Weights files that a user brings: where they are, and how they are read. No code in a weights file ever runs.

A source is a folder, a file, or, where no such path exists, a name on the model hub: `owner/name`, or `owner/name:file` for one
file of it.
"""

import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.files import UserError

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
STEM = "diffusion_pytorch_model"  # of the files in diffusers' layout
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(:[^:]+)?")


class WeightsError(UserError):
    """Weights that are missing or belong to something else. The message says which file, and what to do."""


def check_fit(path: Path, weights: dict[str, Tensor], module: nn.Module) -> None:
    """WeightsError with the first mismatching keys, unless weights and module have the same keys and shapes."""
    wanted = {k: tuple(v.shape) for k, v in module.state_dict().items()}
    given = {k: tuple(v.shape) for k, v in weights.items()}
    wrong = [
        f"{k}: file {given.get(k, 'nothing')}, model {wanted.get(k, 'nothing')}"
        for k in sorted(wanted | given)
        if wanted.get(k) != given.get(k)
    ]
    if wrong:
        raise WeightsError(f"{path} holds another network, {len(wrong)} keys differ: " + "; ".join(wrong[:3]))


class _Inert:
    """Stands for a class or function of a checkpoint: takes any arguments and any state, keeps nothing, does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        pass


class _InertDict(_Inert):
    """The same for a subclass of dict; torch's unpickler fills only dictionaries of exactly the standard types."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weights file on the CPU, in the file's precision, mapped from disk where the format allows it.

    A `state_dict` inside the file is unwrapped, what is no tensor is left out. torch files are read by torch's unpickler for
    weights alone; what it does not know (Lightning's callbacks in Stable Diffusion 1 and Waifu Diffusion) becomes an inert object.
    WeightsError: no such file, another format, damaged, code in the file, no weights in it.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path} is no weights file: give one that ends in {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise WeightsError(f"There is no file {path}.")
    try:
        content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except Exception as error:  # a damaged file makes the readers fail in any way
        inner = error.__context__ or error  # torch wraps the reason into advice to run the file's code
        reason = str(inner).split("\n")[0].split(". ")[0].rstrip(".") or type(inner).__name__
        raise WeightsError(
            f"{path} cannot be read as weights alone ({reason}): it is damaged or holds code; get it again, or as safetensors."
        ) from None
    if isinstance(content, Mapping):
        content = content.get("state_dict", content)
    content = content if isinstance(content, Mapping) else {}
    weights = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not weights:
        raise WeightsError(f"{path} holds no weights: give a file that was saved from a state_dict.")
    return weights


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def _read_torch(path: Path) -> Any:
    from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

    zipped = zipfile.is_zipfile(path)  # torch before 1.6 wrote no archive: such a file is not mapped, and foreign objects stop it
    foreign = get_unsafe_globals_in_checkpoint(path) if zipped else []
    stubs: list[Callable | tuple[Callable, str]] = [
        (_InertDict if name.lower().endswith("dict") else _Inert, name) for name in foreign
    ]
    with safe_globals(stubs):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def find(source: str | Path, names: tuple[str, ...] = (), folders: tuple[str, ...] = ("",)) -> Path:
    """The weights file (or index of shards) that a source means.

    Of a folder or a whole hub repository it is the first of `names` that is there, in the first of `folders` that has one; without
    names the source has to be a file. WeightsError: no such path, nothing of these names in it, or nothing to be had from the hub.
    """
    path = Path(source).expanduser()
    lacks = f"has no {Path(folders[0]) / names[0]}" if names else "is more than one file"
    if path.is_file():
        return path
    if path.is_dir():
        if found := _first(path, names, folders):
            return found
        raise WeightsError(f"{path} {lacks}: give another folder, or a weights file.")
    repository, _, file = str(source).partition(":")
    if not _HUB_NAME.fullmatch(str(source)) or (not file and path.suffix in SUFFIXES):
        raise WeightsError(f"There is no {path}: give an existing path, or a hub name as owner/name or owner/name:file.")
    if file:
        found = _download(repository, [file]) / file
        if found.is_file():
            return found
        raise WeightsError(f"{repository} on the model hub has no {file}: give the name of one of its files.")
    for name in names:
        shards = [name.split(".index")[0].replace(STEM, f"{STEM}*-of-*")] if ".index" in name else []
        root = _download(repository, [(Path(f) / n).as_posix() for f, n in product(folders, [name, *shards])])
        if found := _first(root, names, folders):
            return found
    raise WeightsError(f"{repository} on the model hub {lacks}: name one of its files as {repository}:FILE.")


def mirrored(source: str, mirror: str | Path | None) -> str:
    """The source as a path in a folder of copies of hub repositories, `<mirror>/owner/name`, where the folder has it."""
    if mirror is None or not _HUB_NAME.fullmatch(source) or Path(source).expanduser().exists():
        return source
    repository, _, file = source.partition(":")
    path = Path(mirror).expanduser() / repository / file
    return str(path) if path.exists() else source


def _first(root: Path, names: tuple[str, ...], folders: tuple[str, ...]) -> Path | None:
    return next((root / f / n for f, n in product(folders, names) if (root / f / n).is_file()), None)


def _download(repository: str, patterns: list[str]) -> Path:
    """The local snapshot of a hub repository with the files of these patterns, from the cache where there is no network."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as error:  # the hub's client raises its own errors, its transport's and the disk's
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise WeightsError(
            f"{repository} is no path here, and the model hub does not give it ({reason}): give a path, or check name and network."
        ) from None
