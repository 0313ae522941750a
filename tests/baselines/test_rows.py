"""Every row of conf/baseline with public weights, from a mirror folder that has small random ones in the places of conf/weights."""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from src.baselines.method import Baseline
from src.baselines.prompts import prompts
from src.config import CONF, compose, plain
from src.files import UserError
from src.methods import Batch, Cell, Words
from src.weights import WeightsError
from tests.baselines import small

DEMO = {"t2i_words"}  # its base has no public T2I-Adapter
ROWS = sorted({path.stem for path in (CONF / "baseline").glob("*.yaml")} - {"entry"} - DEMO)
# What the pictures of each depend on, beside sketches and seeds: else on references.
SEEN = {"text": {"words"}, "t2i_text": {"words", "references"}, "text_shuffled": {"reference_words"}}


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Path:
    """A folder `mirror` as docs/baselines.md lays it out, and `ft`, an IP-Adapter trained here."""
    torch.manual_seed(1)
    root, someone = tmp_path_factory.mktemp("public"), mirror / "someone"
    for place, source in {
        "stable-diffusion-v1-5/stable-diffusion-v1-5": "sd",
        "Linaqruf/anything-v3.0": "sd",
        "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
        "lllyasviel/control_v11p_sd15_lineart": "sd-control",
        "lllyasviel/control_v11p_sd15s2_lineart_anime": "sd-control",
        "TencentARC/t2i-adapter-lineart-sdxl-1.0": "sdxl-t2i",
        "h94/IP-Adapter": "adapter",
    }.items():
        shutil.copytree(someone / source, root / "mirror" / place)
    adapter = root / "mirror/h94/IP-Adapter"
    (adapter / "sdxl_models").mkdir()
    shutil.copy(someone / "sd-ip/ip-adapter.safetensors", adapter / "models/ip-adapter_sd15.safetensors")
    shutil.copy(someone / "sdxl-ip/ip-adapter.safetensors", adapter / "sdxl_models/ip-adapter_sdxl_vit-h.safetensors")
    shutil.copytree(someone / "sd-ip", root / "ft")
    lllite = root / "mirror/kohya-ss/controlnet-lllite/controllllite_v01032064e_sdxl_canny_anime.safetensors"
    small.control_lllite(lllite, small.load(mirror, "sdxl").unet)
    for name, weights in {
        "embed/EasyNegative/EasyNegative": {"emb_params": torch.randn(3, small.WIDTH)},
        "gsdf/CounterfeitXL/embeddings/negativeXL_D": {key: torch.randn(2, small.WIDTH) for key in ("clip_l", "clip_g")},
    }.items():
        file = root / "mirror" / f"{name}.safetensors"
        file.parent.mkdir(parents=True)
        save_file(weights, file)
    return root


def row(public: Path, name: str, *more: str) -> Baseline:
    places = [f"weights.mirror={public / 'mirror'}", f"weights.ip_adapters.ft={public / 'ft'}"]
    return Baseline(
        compose([f"baseline={name}", "weights=public", "sampler=karras", "sampler.steps=2", *places, *more], "evaluate")
    )


def batch(**other: Any) -> Batch:
    rng = np.random.default_rng(0)
    sketches = np.where(rng.random((3, 6, 10)) > 0.3, 255, 0).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    references = rng.integers(0, 256, (3, 5, 5, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    given: dict[str, Any] = {
        "sketches": sketches, "seeds": [1, 2, 3], "references": references,
        "words": [Words("a red hat", True), Words("a sea"), Words("a dog")],
        "reference_words": [Words("a blue hat"), Words("a woman", True), Words("trees")],
    }  # fmt: skip
    return Batch(**given | other)


def changed(results: np.ndarray, others: np.ndarray) -> list[bool]:
    """By drawing."""
    return [int(np.abs(a.astype(int) - b).max()) > 2 for a, b in zip(results, others, strict=True)]


@pytest.mark.parametrize("name", ROWS)
def test_a_row(public: Path, name: str) -> None:
    method = row(public, name).on(torch.device("cpu"))
    whole = batch()
    results = method(whole, Cell(None))
    assert results.dtype == np.uint8
    assert results.shape == (3, 48, 80, 3)
    assert results.std((1, 2, 3)).min() > 2
    assert not any(changed(results[1:2], method(whole[1:2], Cell(None))))
    sketches, references = whole.sketches.copy(), whole.references.copy()
    sketches[0], references[2] = 255, 255 - references[2]
    assert changed(results, method(batch(sketches=sketches, seeds=[1, 5, 3]), Cell(None))) == [True, True, False]
    others = method(
        batch(
            words=[Words("a green box", True), *whole.words[1:]],
            reference_words=[whole.reference_words[0], Words("a green box", True), whole.reference_words[2]],
            references=references,
        ),
        Cell(None),
    )
    seen = SEEN.get(name, {"references"})
    assert changed(results, others) == [field in seen for field in ("words", "reference_words", "references")]


def test_a_row_says_what_it_is_made_from(public: Path) -> None:
    """Of every file that it reads, so that evaluation samples anew when one has changed."""
    one, other = row(public, "ip_adapter_sdxl"), row(public, "ip_adapter_sdxl", "~weights.bases.sdxl.embeddings")
    assert one.made_from["weights"].keys() == {"base", "encoders", "controls", "ip_adapters"}
    assert {key for key, value in one.made_from["weights"].items() if other.made_from["weights"][key] != value} == {"encoders"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["weights.ip_adapters.sdxl=h94/IP-Adapter:models/ip-adapter_sd15.safetensors"], "made for another base"),
        (["weights.controls.canny_anime.condition=depth"], "condition is 'depth'"),
        (["weights.bases.sdxl.image_encoder=null"], "no CLIP vision model"),
    ],
)
def test_parts_that_do_not_fit(public: Path, changes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        row(public, "ip_adapter_sdxl", *changes)(batch(), Cell(None))


def test_a_mirror_without_a_part(public: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="nobody/nothing"):
        row(public, "text", "weights.controls.anime.source=nobody/nothing")


def test_prompts_of_the_rows(public: Path) -> None:
    """Section 5.3, in the words of conf/weights/public.yaml."""
    common = plain(compose(["weights=public"], "evaluate").weights)["prompts"]
    praise = "masterpiece, best quality, ultra-detailed, hires"
    told = {
        name: prompts(plain(compose([f"baseline={name}"], "evaluate").baseline), common, batch())
        for name in ("text", "text_shuffled", "ip_adapter", "ip_adapter_sdxl", "reference_only")
    }
    assert told["text"][0] == [f"a red hat, {praise}", f"a sea, {praise}", f"a dog, {praise}"]
    assert told["text"][1] == ["easynegative"] * 3
    assert told["text_shuffled"][0] == [f"a blue hat, {praise}", f"a woman, {praise}", f"trees, {praise}"]
    for name in ("ip_adapter", "reference_only"):
        assert told[name] == ([f"a girl, {praise}", praise, praise], ["easynegative", "a girl, easynegative", "easynegative"])
    assert told["ip_adapter_sdxl"][1] == ["negativeXL_D", "a girl, negativeXL_D", "negativeXL_D"]


def test_packages_that_are_missing(public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = row(public, "ip_adapter_sdxl")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"opencv-python-headless: pip install -e '\.\[baselines\]'"):
        method(batch(), Cell(None))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"transformers: pip install -e '\.\[baselines\]'"):
        row(public, "text")
