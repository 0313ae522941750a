import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance

from src.metrics import features
from src.metrics.features import INCEPTION_FILE, FeaturesUnavailable, available, clip_features, extractor, lite0_key, lite0_path


def drawing(seed: int, shift: int = 0, size: int = 64) -> np.ndarray:
    """A few coloured shapes on white; `shift` moves them by so many pixels."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        corner, side = rng.integers(4, size // 2, 2), rng.integers(size // 6, size // 2, 2)
        box = [int(v) + shift for v in (*corner, *(corner + side))]
        shape = [draw.ellipse, draw.rectangle][rng.integers(2)]
        shape(box, fill=tuple(int(v) for v in rng.integers(0, 256, 3)), outline="black", width=2)
    return np.asarray(image)


@pytest.fixture(scope="module")
def efficientnet():
    return extractor("efficientnet")


def test_every_key_of_the_weights_has_one_place_and_every_place_a_key():
    import timm

    weights = torch.load(lite0_path(), map_location="cpu", weights_only=True)
    with torch.device("meta"):
        places = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    names = [lite0_key(key) for key in weights]
    assert len(set(names)) == len(names)
    assert {lite0_key(key): value.shape for key, value in weights.items()} == {k: v.shape for k, v in places.items()}


def test_the_network_knows_what_it_sees():
    """A photograph of an officer: wrong names, padding or scaling of the input would lose ImageNet's `military uniform`."""
    cbook = pytest.importorskip("matplotlib.cbook")
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        photograph = np.asarray(Image.open(file).convert("RGB"))
    pooled = extractor("efficientnet").call(photograph[None])
    logits = features.lite0_network(lite0_path()).classifier(torch.from_numpy(pooled))
    assert logits.argmax() == 652


def test_folding_the_norms_changes_nothing():
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain, folded = (change(features.lite0_network(lite0_path())) for change in (lambda network: network, features.folded))
    assert not any("running_mean" in key for key in folded.state_dict())
    torch.testing.assert_close(folded(images), plain(images), atol=1e-3, rtol=1e-3)


def test_an_augmented_drawing_is_nearest_to_itself(efficientnet):
    count = 12
    drawings = np.stack([drawing(i) for i in range(count)])
    moved = [Image.fromarray(drawing(i, shift=2)) for i in range(count)]
    changed = np.stack([np.asarray(ImageEnhance.Brightness(image).enhance(0.93)) for image in moved])
    a, b = efficientnet.call(drawings), efficientnet.call(changed)
    assert a.shape == (count, 1280) == (count, efficientnet.dimensions) and a.dtype == np.float32
    distance = np.linalg.norm(a[:, None] - b, axis=-1)
    assert (distance.argmin(1) == np.arange(count)).all()


def test_batches_and_kinds_of_array_make_no_difference(efficientnet, monkeypatch):
    images = np.stack([drawing(i, size=40) for i in range(5)])
    images.flags.writeable = False
    whole = efficientnet.call(images)
    monkeypatch.setattr(features, "BATCH", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(efficientnet.call(images), whole, atol=1e-4)
    np.testing.assert_allclose(efficientnet.call(torch.tensor(images)), whole, atol=1e-4)
    assert efficientnet.call(images[:0]).shape == (0, 1280)


@pytest.mark.parametrize("wrong", [np.zeros((1, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), torch.zeros(1, 3, 8, 8)])
def test_images_of_another_kind_are_refused(efficientnet, wrong):
    with pytest.raises(ValueError, match="uint8"):
        efficientnet.call(wrong)


class FakeInception(torch.nn.Module):
    """The interface of clean-fid's file: `layers` takes normalised 299 px images and gives 2048 numbers."""

    def __init__(self) -> None:
        super().__init__()
        pool = torch.nn.AdaptiveAvgPool2d(4)
        self.layers = torch.nn.Sequential(pool, torch.nn.Flatten(), torch.nn.Linear(48, 2048), torch.nn.Dropout(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture
def inception_file(tmp_path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(FakeInception()).save(str(tmp_path / INCEPTION_FILE))
    return tmp_path / INCEPTION_FILE


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::DeprecationWarning")
def test_inception_takes_the_way_of_clean_fid(inception_file, monkeypatch):
    from cleanfid.features import InceptionV3W
    from cleanfid.resize import build_resizer

    monkeypatch.setenv("COLORIZE_INCEPTION", str(inception_file))
    assert "inception" in available()
    inception = extractor("inception")
    assert (inception.distance_name, inception.dimensions) == ("FID", 2048)
    images = np.stack([drawing(i) for i in range(3)])
    theirs = InceptionV3W(str(inception_file.parent), download=False)
    resized = torch.from_numpy(np.stack([build_resizer("clean")(image) for image in images])).permute(0, 3, 1, 2)
    with torch.no_grad():
        np.testing.assert_allclose(inception.call(images), theirs(resized).numpy(), atol=1e-6)
    assert extractor("inception", inception_file).call(images[:1]).shape == (1, 2048)


def test_a_missing_inception_says_where_to_put_it(tmp_path, monkeypatch):
    missing = tmp_path / "nowhere.pt"
    monkeypatch.setenv("COLORIZE_INCEPTION", str(missing))
    assert available() == ["efficientnet"]
    with pytest.raises(FeaturesUnavailable, match=f"{missing}.*COLORIZE_INCEPTION"):
        extractor("inception")
    with pytest.raises(FeaturesUnavailable, match=r"other\.pt"):
        extractor("inception", tmp_path / "other.pt")


@pytest.mark.skipif(not hasattr(features.os, "getuid"), reason="files have no owner here")
def test_a_strangers_file_in_the_shared_folder_is_not_run(inception_file, monkeypatch):
    monkeypatch.delenv("COLORIZE_INCEPTION", raising=False)
    monkeypatch.setattr(features, "INCEPTION_FOLDER", inception_file.parent)
    owner = inception_file.stat().st_uid
    assert features.inception_path() == inception_file
    monkeypatch.setattr(features, "OWNERS", {owner + 1})
    assert "inception" not in available()
    with pytest.raises(FeaturesUnavailable, match="another user"):
        extractor("inception")


def test_clip_is_the_backbones_image_embedding(backbone_directory, monkeypatch):
    from src.backbone.parts import load_backbone, to_input

    backbone = load_backbone({"directory": backbone_directory})
    clip = clip_features(backbone)
    assert (clip.name, clip.distance_name, clip.dimensions) == ("clip", "FD-CLIP", 128)
    images = np.stack([drawing(i) for i in range(5)])
    monkeypatch.setattr(features, "BATCH", 2)
    ours = clip.call(images)
    assert ours.dtype == np.float32 and ours.shape == (5, 128)
    with torch.no_grad():
        tokens = backbone.tokens(to_input(torch.from_numpy(images)))
    np.testing.assert_allclose(ours, tokens[:, 0].numpy(), atol=1e-5)
    assert abs(np.linalg.norm(ours, axis=1) - 1).min() > 0.01
    larger = np.stack([drawing(i, size=96) for i in range(2)])
    assert clip.call(larger).shape == (2, 128)


def test_missing_weights_and_unknown_names(tmp_path):
    with pytest.raises(FeaturesUnavailable, match=r"gone\.pth"):
        extractor("efficientnet", tmp_path / "gone.pth")
    with pytest.raises(ValueError, match="efficientnet and inception"):
        extractor("vgg")
