"""sketchKeras and Anime2Sketch: the public files' keys and shapes, and what is done before and after the networks."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch import Tensor, nn
from torch.nn import functional as F

from src.data.line_networks import (
    NETWORKS,
    Anime2Sketch,
    LineNetwork,
    SketchKeras,
    _loaded,
    anime2sketch_lines,
    extract,
    high_pass,
    line_networks,
    sketch_keras_lines,
)
from src.files import UserError
from src.weights import WeightsError

Shapes = dict[str, tuple[int, ...]]

# The convolutions of `model.pth`, name and shape of the weight; each but the last is followed by a batch normalisation, one later.
SKETCH_KERAS = """
downblock_1.1 32 1 3    downblock_2.1 64 32 4    downblock_2.5 64 64 3     downblock_3.1 128 64 4
downblock_3.5 128 128 3 downblock_4.1 256 128 4  downblock_4.5 256 256 3   downblock_5.1 512 256 4
downblock_6.1 512 512 3 upblock_1.2 512 1024 4   upblock_1.6 256 512 3     upblock_2.2 256 512 4
upblock_2.6 128 256 3   upblock_3.2 128 256 4    upblock_3.6 64 128 3      upblock_4.2 64 128 4
upblock_4.6 32 64 3     last_conv 1 64 3
"""
# The layers of `netG.pth` without the prefix `module.`: the shape of the weight, whose kernel is 4 x 4, then the bias's.
ANIME2SKETCH = """
model.model.0 64 3 64
model.model.1.model.1 128 64 128
model.model.1.model.3.model.1 256 128 256
model.model.1.model.3.model.3.model.1 512 256 512
model.model.1.model.3.model.3.model.3.model.1 512 512 512
model.model.1.model.3.model.3.model.3.model.3.model.1 512 512 512
model.model.1.model.3.model.3.model.3.model.3.model.3.model.1 512 512 512
model.model.1.model.3.model.3.model.3.model.3.model.3.model.3.model.1 512 512 512
model.model.1.model.3.model.3.model.3.model.3.model.3.model.3.model.3 512 512 512
model.model.1.model.3.model.3.model.3.model.3.model.3.model.5 1024 512 512
model.model.1.model.3.model.3.model.3.model.3.model.5 1024 512 512
model.model.1.model.3.model.3.model.3.model.5 1024 512 512
model.model.1.model.3.model.3.model.5 1024 256 256
model.model.1.model.3.model.5 512 128 128
model.model.1.model.5 256 64 64
model.model.3 128 1 1
"""


def sketch_keras_layout() -> Shapes:
    layout: Shapes = {}
    words = SKETCH_KERAS.split()
    for name, *numbers in zip(*[iter(words)] * 4, strict=True):
        out, channels, kernel = map(int, numbers)
        layout |= {f"{name}.weight": (out, channels, kernel, kernel), f"{name}.bias": (out,)}
        if name != "last_conv":
            block, place = name.split(".")
            norm = f"{block}.{int(place) + 1}"
            layout |= {f"{norm}.{part}": (out,) for part in ("weight", "bias", "running_mean", "running_var")}
            layout[f"{norm}.num_batches_tracked"] = ()
    return layout


def anime2sketch_layout() -> Shapes:
    layout: Shapes = {}
    for line in ANIME2SKETCH.split("\n")[1:-1]:
        name, first, second, bias = line.split()
        layout |= {f"{name}.weight": (int(first), int(second), 4, 4), f"{name}.bias": (int(bias),)}
    return layout


def random_weights(layout: Shapes) -> dict[str, Tensor]:
    """Weights that keep activations of a moderate size, in the layout of a public file."""
    torch.manual_seed(0)
    weights = {}
    for key, shape in layout.items():
        if key.endswith("num_batches_tracked"):
            weights[key] = torch.tensor(0)
        elif len(shape) == 4:
            weights[key] = torch.randn(shape) * (2 / np.prod(shape[1:])) ** 0.5
        elif "running_var" in key or (key.endswith(".weight") and len(shape) == 1):
            weights[key] = torch.rand(shape) + 0.5
        else:
            weights[key] = torch.randn(shape) * 0.1
    return weights


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    torch.save(random_weights(sketch_keras_layout()), folder / "model.pth")
    torch.save({f"module.{k}": v for k, v in random_weights(anime2sketch_layout()).items()}, folder / "netG.pth")
    return {"sketch_keras": folder / "model.pth", "anime2sketch": folder / "netG.pth"}


@pytest.fixture(scope="module")
def networks(files: dict[str, Path]) -> dict[str, LineNetwork]:
    return line_networks(list(NETWORKS), {name: str(path) for name, path in files.items()})


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [
        np.kron(rng.integers(0, 256, (h // 4 + 1, w // 4 + 1, 3), np.uint8), np.ones((4, 4, 1), np.uint8))[:h, :w] for h, w in sizes
    ]


@pytest.mark.parametrize(
    ("build", "layout", "parameters"),
    [(SketchKeras, sketch_keras_layout(), 18_637_601), (Anime2Sketch, anime2sketch_layout(), 54_405_505)],
)
def test_keys_and_shapes_are_those_of_the_public_files(build: type[nn.Module], layout: Shapes, parameters: int) -> None:
    with torch.device("meta"):
        network = build()
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == layout
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("name", NETWORKS)
def test_any_size_alone_and_together_and_the_same_again(networks: dict[str, LineNetwork], name: str) -> None:
    images = pictures((20, 37), (1, 1), (20, 37))
    network = pickle.loads(pickle.dumps(networks[name]))  # as it reaches a worker
    lines = network(images)
    assert [line.shape for line in lines] == [image.shape[:2] for image in images]
    assert all(line.dtype == np.uint8 for line in lines)
    assert lines[0].std() > 0 and not np.array_equal(lines[0], lines[2])
    assert all(np.array_equal(line, network([image])[0]) for line, image in zip(lines, images, strict=True))
    together = extract(name, _loaded(name, network.path, "cpu"), images, 3)
    assert all(np.abs(line.astype(int) - other).max() <= 1 for line, other in zip(lines, together, strict=True))


def test_sketch_keras_sees_a_high_pass_image(networks: dict[str, LineNetwork]) -> None:
    images = np.stack(pictures((30, 41), (30, 41)))
    images[1] //= 4
    kernel = np.exp(-(np.arange(-9, 10) ** 2) / 18)
    kernel /= kernel.sum()
    ours = high_pass(torch.from_numpy(images)).numpy()
    for image, got in zip(images.astype(float), ours, strict=True):
        difference = image - np.rint(correlate1d(correlate1d(image, kernel, 0, mode="mirror"), kernel, 1, mode="mirror"))
        scaled = (difference / difference.max()).transpose(2, 0, 1)
        assert (np.abs(got - scaled) > 1e-6).mean() < 0.001  # a blur at half a grey level may be rounded to either side
        assert np.abs(got - scaled).max() <= 1.01 / difference.max()
    assert not high_pass(torch.full((1, 20, 20, 3), 77, dtype=torch.uint8)).any()


class Fixed(nn.Module):
    """Stands for a network: remembers its input and returns a value for each pixel."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        self.given = x
        return F.pad(self.output, (0, x.shape[3] - self.output.shape[3], 0, x.shape[2] - self.output.shape[2]))


def test_sketch_keras_takes_the_strongest_channel_above_a_tenth() -> None:
    image = torch.from_numpy(pictures((2, 3))[0])[None]
    channels = torch.tensor(
        [[[0.05, 0.0, 0.3], [-1.0, 0.0, 0.1]], [[0.0, 0.09, 0.2], [-2.0, 0.5, 0.0]], [[0.0, 0.0, 0.7], [-3.0, 2.0, 0]]]
    )
    network = Fixed(channels[:, None])
    lines = sketch_keras_lines(network, image)
    assert lines.tolist() == [[[255, 255, int(255 * 0.3)], [255, 0, int(255 * 0.9)]]]
    assert network.given.shape == (3, 1, 32, 32)
    assert torch.equal(network.given[:, 0, :2, :3], high_pass(image)[0])
    assert not network.given[..., 2:, :].any() and not network.given[..., 3:].any()


def test_anime2sketch_sees_the_image_from_minus_one_to_one_and_gives_grey() -> None:
    image = torch.from_numpy(pictures((150, 3))[0])[None]
    network = Fixed(torch.tensor([-1.0, 0.0, 1.0]).expand(1, 1, 150, 3))
    assert anime2sketch_lines(network, image)[0, 7].tolist() == [0, 127, 255]
    seen = network.given[0].permute(1, 2, 0)
    assert seen.shape == (256, 256, 3)
    assert torch.allclose(seen[:150, :3], image[0] / 255 * 2 - 1, atol=1e-6)
    # Below and at the right it goes on as its mirror image.
    assert torch.equal(seen[150:256], seen[43:149].flip(0))
    assert torch.equal(seen[:, 3:7], seen[:, [1, 0, 1, 2]])


def test_files_of_another_network_are_named(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"netG.pth holds another network, \d+ keys differ: downblock_1.1.bias: file nothing"):
        line_networks(["sketch_keras"], {"sketch_keras": str(files["anime2sketch"])})
    weights = random_weights(sketch_keras_layout())
    weights["last_conv.weight"] = torch.zeros(2, 64, 3, 3)
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"1 keys differ: last_conv.weight: file \(2, 64, 3, 3\), model \(1, 64, 3, 3\)"):
        line_networks(["sketch_keras"], {"sketch_keras": str(tmp_path / "other.pth")})


def test_missing_weights_are_named_before_any_is_read() -> None:
    with pytest.raises(UserError, match=r"wants anime2sketch.* set data.sketch.networks.anime2sketch to the path of netG.pth"):
        line_networks(["sketch_keras", "anime2sketch"], {"sketch_keras": "/none/model.pth", "anime2sketch": None})
    with pytest.raises(WeightsError, match=r"There is no /none/model.pth"):
        line_networks(["sketch_keras"], {"sketch_keras": "/none/model.pth"})
