"""Samples a second of the loader, in one process on one core: `python -m benchmarks.loader [demo|paper ...]`.

Cached features against images with the VAE and CLIP beside them: at the demo's size with the demo's weights, at the paper's, 512
px, with Stable Diffusion's VAE and ViT-H/14 with random weights, in float32. Images, stored as png or as jpg (quality 95), against
a plain folder `Dataset` that opens every drawing with PIL: once the same drawings as 512 px png files, once originals of twice
the size, which it has to make smaller each time.

All ways give the same kind of batch (uint8 images, float features) and take turns; the best of the repetitions counts.
"""

import io
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from src.backbone.parts import Backbone, load_backbone, to_input
from src.config import compose
from src.data import openmoji
from src.data.columns import Column, Sample, Unusable, build_column, shard_keys
from src.data.derived import sketch_shard
from src.data.images import array_bytes, to_png
from src.data.loader import EpochLoader, Table
from src.data.tokens import encode_tokens

ROWS = 96
BATCH = 16
REPEATS = 5


def paper_backbone() -> Backbone:
    import open_clip

    from src.backbone.pretrained import SD_VAE, LatentVAE

    torch.manual_seed(0)
    clip = open_clip.create_model("ViT-H-14", pretrained=None)
    return Backbone(LatentVAE(**SD_VAE).eval(), clip.eval(), None, "random", 512, 64, 4, 1024)


def features_shard(shard: int, keys: Sequence[str], *, column: str, latent: tuple, tokens: tuple) -> Iterator[tuple[str, Sample]]:
    """Features of the right size; their values do not matter to who reads them."""
    rng = np.random.default_rng(shard)
    for key in keys:
        if column == "latent":
            mean, std = (array_bytes(rng.normal(size=latent).astype(np.float16)) for _ in range(2))
            yield key, {"mean.npy": mean, "std.npy": std}
        else:
            yield key, dict(encode_tokens(rng.normal(size=tokens).astype(np.float16), 8 if column == "tokens_8" else 16))


def build(root: Path, size: int, latent: tuple, tokens: tuple) -> None:
    """A split of ROWS drawings at `size`, with features."""
    keys = openmoji.color_keys("train", 1, 0.12)[: ROWS * 3 // 2]
    drawings: list[Any] = list(openmoji.color_shard(0, keys, size=size, seed=0, min_colored=0.02))
    drawings = [row for row in drawings if not isinstance(row, Unusable)][:ROWS]
    index = build_column(root / "color", [[key for key, _ in drawings]], partial(given, rows=dict(drawings)), {})
    shards = shard_keys(index)
    build_column(root / "sketch", shards, partial(sketch_shard, color=root / "color", seed=0, extracted=1.0), {})
    for column in ("latent", "tokens", "tokens_8"):
        build_column(root / column, shards, partial(features_shard, column=column, latent=latent, tokens=tokens), {})


def given(shard: int, keys: Sequence[str], *, rows: dict[str, Sample]) -> Iterator[tuple[str, Sample]]:
    yield from ((key, rows[key]) for key in keys)


def jpeg(png: bytes) -> bytes:
    """As the columns of one's own drawings are by default: quality 95, colours at full resolution."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "JPEG", quality=95, subsampling="4:4:4")
    return buffer.getvalue()


class Folder(Dataset[dict[str, torch.Tensor]]):
    """What everybody writes first: a list of files, opened with PIL, brought to one size."""

    def __init__(self, folder: Path, size: int) -> None:
        self.files, self.size = sorted(folder.iterdir()), size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        image = Image.open(self.files[row]).convert("RGB")
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.LANCZOS)
        return {"color": torch.from_numpy(np.array(image))}


def rate(ways: dict[str, Callable[[], Iterator[Any]]], most: dict[str, int]) -> dict[str, float]:
    """Samples a second of each way, the best of REPEATS turns over its first `most` batches."""
    best = dict.fromkeys(ways, 0.0)
    for _ in range(REPEATS):
        for name, way in ways.items():
            start, count = time.perf_counter(), 0
            for batch in itertools.islice(way(), most.get(name, ROWS // BATCH)):
                count += len(next(iter(batch.values())))
            best[name] = max(best[name], count / (time.perf_counter() - start))
    return best


def features(size: int, backbone: Backbone, batch: int) -> None:
    side, width = backbone.latent_size, backbone.context_width
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        build(root, size, (backbone.latent_channels, side, side), (1 + backbone.token_count, width))

        def cached(tokens: str) -> Iterator[Any]:
            return iter(EpochLoader(Table(root, ["latent", tokens, "sketch"]), batch, ROWS, 0))

        def live() -> Iterator[Any]:
            for images in EpochLoader(Table(root, ["color", "sketch"]), batch, ROWS, 0):
                with torch.inference_mode():
                    tensor = to_input(images["color"])
                    mean, std = backbone.encode(tensor)
                    yield {**images, "mean": mean, "std": std, "tokens": backbone.tokens(tensor)}

        ways = {
            "cached": partial(cached, "tokens"),
            "cached, tokens of 8 bits": partial(cached, "tokens_8"),
            "images, encoded on the fly": live,
        }
        most = {"images, encoded on the fly": 1} if size == 512 else {}
        show(f"features at {size} px", rate(ways, most), "images, encoded on the fly")


def images(size: int = 512) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        build(root / "table", size, (1, 1, 1), (1, 1))
        build(root / "originals", 2 * size, (1, 1, 1), (1, 1))
        for name, table in {"same": "table", "larger": "originals"}.items():
            (root / name).mkdir()
            for row, image in enumerate(Table(root / table, ["color"])):
                (root / name / f"{row:03}.png").write_bytes(to_png(image["color"].numpy()))
                if row + 1 == ROWS:
                    break

        drawings = {key: {"jpg": jpeg(sample["png"])} for key, sample in Column(root / "table/color")}
        build_column(root / "jpg/color", [list(drawings)], partial(given, rows=drawings), {})

        def ours(table: str) -> Iterator[Any]:
            return iter(EpochLoader(Table(root / table, ["color"]), BATCH, ROWS, 0))

        def folder(name: str) -> Iterator[Any]:
            return iter(DataLoader(Folder(root / name, size), BATCH, shuffle=True))

        ways = {
            "ours, png": partial(ours, "table"),
            "ours, jpg": partial(ours, "jpg"),
            "folder of the same files": partial(folder, "same"),
            f"folder of originals at {2 * size} px": partial(folder, "larger"),
        }
        show(f"images at {size} px", rate(ways, {}), "folder of the same files", f"folder of originals at {2 * size} px")


def show(title: str, rates: dict[str, float], *against: str) -> None:
    print(f"\n{title:36}{'samples/s':>12}" + "".join(f"{'against ' + name:>44}" for name in against))
    for name, value in rates.items():
        print(f"  {name:34}{value:12.2f}" + "".join(f"{value / rates[other]:44.2f}" for other in against), flush=True)


def main(sizes: list[str]) -> None:
    torch.set_num_threads(1)
    print(f"One core of {os.cpu_count()}, load of the machine {os.getloadavg()[0]:.1f}; {REPEATS} repetitions, the best counts.")
    images()
    if "demo" in sizes:
        config = compose()
        features(config.backbone.size, load_backbone(config.backbone), BATCH)
    if "paper" in sizes:
        features(512, paper_backbone(), 1)


if __name__ == "__main__":
    main(sys.argv[1:] or ["demo", "paper"])
