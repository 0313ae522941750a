"""Line extraction by the public networks sketchKeras and Anime2Sketch, from their PyTorch checkpoints.

What this rests on, read from the public repositories (state of November 2026):
- higumax/sketchKeras-pytorch: layers and names in `src/model.py`; high-pass image, maximum over channels and threshold in
  `src/test.py`; the file is `model.pth`. There the decoder's upsampling has fixed sizes for 512 px; here it doubles, which is
  the same at 512 px and works at any size.
- Mukosame/Anime2Sketch: layers and names in `model.py`, scaling in `data.py`; the file is `netG.pth`, its keys have the prefix
  `module.`. The file `improved.bin` holds another network.
Neither file was at hand when this was written.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.files import UserError, file_sha256
from src.weights import check_fit, find, read_weights

BATCH = {"cuda": 8, "cpu": 1}  # images; one of 512 px takes some 1.2 GB in sketchKeras
# Input channels, output channels, kernel and stride of each convolution of sketchKeras' blocks.
DOWN_BLOCKS = (
    ((1, 32, 3, 1),),
    ((32, 64, 4, 2), (64, 64, 3, 1)),
    ((64, 128, 4, 2), (128, 128, 3, 1)),
    ((128, 256, 4, 2), (256, 256, 3, 1)),
    ((256, 512, 4, 2),),
    ((512, 512, 3, 1),),
)
UP_BLOCKS = (
    ((1024, 512, 4, 1), (512, 256, 3, 1)),
    ((512, 256, 4, 1), (256, 128, 3, 1)),
    ((256, 128, 4, 1), (128, 64, 3, 1)),
    ((128, 64, 4, 1), (64, 32, 3, 1)),
)


class SketchKeras(nn.Module):
    """Lines [B, 1, H, W], 0 = none, of one channel of a high-pass image [B, 1, H, W]; H and W multiples of 16, at least 32."""

    def __init__(self) -> None:
        super().__init__()
        for i, convolutions in enumerate(DOWN_BLOCKS, 1):
            self.add_module(f"downblock_{i}", nn.Sequential(*_normalised(convolutions)))
        for i, convolutions in enumerate(UP_BLOCKS, 1):
            self.add_module(f"upblock_{i}", nn.Sequential(nn.Upsample(scale_factor=2), *_normalised(convolutions)))
        self.last_conv = nn.Conv2d(64, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for i in range(len(DOWN_BLOCKS)):
            x = self.get_submodule(f"downblock_{i + 1}")(x)
            kept.append(x)
        x = kept.pop()
        for i in range(len(UP_BLOCKS)):
            x = self.get_submodule(f"upblock_{i + 1}")(torch.cat([kept.pop(), x], 1))
        return self.last_conv(F.pad(torch.cat([kept.pop(), x], 1), (1, 1, 1, 1), mode="reflect"))


def _normalised(convolutions: Sequence[tuple[int, int, int, int]]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for channels, out_channels, kernel, stride in convolutions:
        after = kernel - stride - 1  # so that H becomes H / stride
        layers += [
            nn.ReflectionPad2d((1, after, 1, after)),
            nn.Conv2d(channels, out_channels, kernel, stride),
            nn.BatchNorm2d(out_channels, eps=1e-3),
            nn.ReLU(),
        ]
    return layers


class Anime2Sketch(nn.Module):
    """The line drawing [B, 1, H, W] of RGB images [B, 3, H, W], both in [-1, 1], 1 = white; H and W multiples of 256.

    The U-Net generator of pix2pix (Isola et al. 2017) with eight levels and instance normalisation.
    """

    def __init__(self) -> None:
        super().__init__()
        level = _Level(512, 512)
        for inner, outer in pairwise((512, 512, 512, 512, 256, 128, 64)):
            level = _Level(outer, inner, level)
        layers = (nn.Conv2d(3, 64, 4, 2, 1), level, nn.ReLU(), nn.ConvTranspose2d(128, 1, 4, 2, 1), nn.Tanh())
        self.model = nn.ModuleDict({"model": nn.Sequential(*layers)})  # the checkpoint's keys are `model.model.*`

    def forward(self, x: Tensor) -> Tensor:
        return self.model["model"](x)


class _Level(nn.Module):
    """Half the size and `inner` channels inside, and the input beside the output: `outer` channels in, twice that out."""

    def __init__(self, outer: int, inner: int, inside: nn.Module | None = None) -> None:
        super().__init__()
        deeper = [nn.InstanceNorm2d(inner), inside] if inside else []
        up = nn.ConvTranspose2d(2 * inner if inside else inner, outer, 4, 2, 1)
        self.model = nn.Sequential(
            nn.LeakyReLU(0.2), nn.Conv2d(outer, inner, 4, 2, 1), *deeper, nn.ReLU(), up, nn.InstanceNorm2d(outer)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.model(x)], 1)


def sketch_keras_lines(network: nn.Module, images: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to line drawings uint8 [B, H, W], 255 = none, as the public script makes them."""
    height, width = images.shape[1:3]
    channels = high_pass(images).flatten(0, 1)[:, None]  # => [3 B, 1, H, W]
    padded = F.pad(channels, (0, max(32, -(-width // 16) * 16) - width, 0, max(32, -(-height // 16) * 16) - height))
    lines = network(padded)[..., :height, :width].unflatten(0, (-1, 3)).amax((1, 2))
    lines = torch.where(lines < 0.1, 0.0, lines)
    return ((1 - lines).clamp(0, 1) * 255).to(torch.uint8)


def high_pass(images: Tensor) -> Tensor:
    """Image minus Gaussian blur (sigma 3, in whole grey levels), scaled by its maximum: uint8 [B, H, W, 3] to [B, 3, H, W]."""
    x = images.permute(0, 3, 1, 2).float()
    radius = 9
    kernel = torch.exp(-(torch.arange(-radius, radius + 1, device=x.device, dtype=torch.float32) ** 2) / (2 * 3.0**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    extended = _mirrored(_mirrored(x, 2, radius, radius), 3, radius, radius)
    blurred = F.conv2d(F.conv2d(extended, kernel[..., None], groups=3), kernel[:, :, None], groups=3)
    # Rounded, a flat area has none: a blank page stays blank whatever it is scaled by.
    difference = x - blurred.round()
    return difference / difference.amax((1, 2, 3), keepdim=True).clamp(min=1)


def anime2sketch_lines(network: nn.Module, images: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to line drawings uint8 [B, H, W].

    Instance normalisation sees the padding too, so it is the mirrored image, which has the image's own statistics.
    """
    height, width = images.shape[1:3]
    x = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    x = _mirrored(_mirrored(x, 2, 0, -height % 256), 3, 0, -width % 256)
    lines = network(x)[:, 0, :height, :width]
    return ((lines + 1) / 2 * 255).to(torch.uint8)


def _mirrored(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    """Extended by reflection about the first and last element, again and again where it is shorter than the extension."""
    size = x.shape[dim]
    period = max(2 * (size - 1), 1)
    places = torch.arange(-before, size + after, device=x.device) % period
    return x.index_select(dim, torch.minimum(places, period - places) if size > 1 else places)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Tensor], Tensor], str]] = {
    "sketch_keras": (SketchKeras, sketch_keras_lines, "model.pth of higumax/sketchKeras-pytorch"),
    "anime2sketch": (Anime2Sketch, anime2sketch_lines, "netG.pth of Mukosame/Anime2Sketch"),
}


@dataclass(frozen=True)
class LineNetwork:
    """Line drawings, uint8 [H, W] each, of images uint8 [H, W, 3] of any sizes. Equal sizes are computed together.

    name: one of NETWORKS; path: its weights; fingerprint: their sha256. The network is loaded where and when it is first used, on
    a GPU if there is one, so that this travels to other processes. Grey levels depend on the device, by one at most.
    """

    name: str
    path: Path
    fingerprint: str

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return extract(self.name, _loaded(self.name, self.path, device), images, BATCH[device])


def extract(name: str, network: nn.Module, images: Sequence[np.ndarray], batch: int) -> list[np.ndarray]:
    """The same with a loaded network, on its device, at most `batch` images at a time."""
    device = next(network.parameters()).device
    lines: dict[int, np.ndarray] = {}
    by_size: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        by_size.setdefault(image.shape, []).append(i)
    for places in by_size.values():
        for start in range(0, len(places), batch):
            part = places[start : start + batch]
            stacked = torch.from_numpy(np.stack([images[i] for i in part])).to(device)
            lines.update(zip(part, NETWORKS[name][1](network, stacked).cpu().numpy(), strict=True))
    return [lines[i] for i in range(len(images))]


@functools.cache
def _loaded(name: str, path: Path, device: str) -> nn.Module:
    network, weights = _checked(name, path)
    network.load_state_dict(weights, assign=True)
    return network.float().eval().requires_grad_(False).to(device)


def _checked(name: str, path: Path) -> tuple[nn.Module, dict[str, Tensor]]:
    """The network without its weights, and these. WeightsError names the first keys that differ."""
    weights = {k.removeprefix("module."): v for k, v in read_weights(path).items()}
    with torch.device("meta"):
        network = NETWORKS[name][0]()
    check_fit(path, weights, network)
    return network, weights


def line_networks(names: Sequence[str], sources: Mapping[str, str | None]) -> dict[str, LineNetwork]:
    """The networks of these names with the weights of sources of `src.weights.find`, which are looked at and not yet loaded.

    UserError where one has no source; WeightsError where a file is missing or holds another network.
    """
    for name in names:
        if not sources.get(name):
            raise UserError(
                f"data.sketch.methods wants {name}, but there are no weights for it: "
                f"set data.sketch.networks.{name} to the path of {NETWORKS[name][2]}."
            )
    paths = {name: find(str(sources[name])) for name in names}
    for name, path in paths.items():
        _checked(name, path)
    return {name: LineNetwork(name, path, file_sha256(path)) for name, path in paths.items()}
