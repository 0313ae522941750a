"""The paper's figures, each described as data in `conf/figure`: `python -m pipelines.figures 10` (docs/figures.md)."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from src.config import plain
from src.files import UserError, write_atomically, write_json

LIGHT_BYTES = 150_000  # what a page that shows several figures can afford for each


@dataclass(frozen=True)
class Picture:
    """A figure, uint8 [H, W, 3], and by their paths what it was made from (`runs`, `data`: hashes and names)."""

    image: np.ndarray
    made_from: Mapping[str, Any]


def make(config: DictConfig) -> list[Path]:
    """Makes the figure of a configuration (`conf/figures.yaml`) and writes it below `out`: `figure-<number>.png` at full size,
    `-light.webp` of at most `LIGHT_BYTES`, and `.json` with title, caption, settings and hashes. Returns these three paths.

    UserError: an unknown kind, drawing or setting, or a run that is not there.
    """
    from src.data.images import to_png

    values = plain(config)
    figure = values["figure"]
    picture = _maker(figure["kind"])(values)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    stem = out / f"figure-{figure['number']}"
    files = [stem.with_name(stem.name + end) for end in (".png", "-light.webp", ".json")]
    write_atomically(files[0], lambda f: f.write(to_png(picture.image)))
    write_atomically(files[1], lambda f: f.write(light(picture.image)))
    kept = {key: values[key] for key in ("sampler", "seed", "precision")}
    write_json(files[2], {**figure, **kept, "scale": values["scale"]["name"], **picture.made_from})
    return files


def _maker(kind: str) -> Callable[[Mapping[str, Any]], Picture]:
    from src.figures.grid import grid
    from src.figures.plots import dscale_plot, weights_plot

    makers = {"grid": grid, "dscale": dscale_plot, "weights": weights_plot}
    if kind not in makers:
        raise UserError(f"figure.kind is {kind!r}; it is one of {', '.join(makers)}.")
    return makers[kind]


def light(image: np.ndarray, limit: int = LIGHT_BYTES) -> bytes:
    """An image [H, W, 3] as WebP of at most `limit` bytes: as sharp as fits, and smaller only where no sharpness fits."""
    from PIL import Image

    picture = Image.fromarray(image)
    while True:
        for quality in (85, 75, 65, 55, 45):
            buffer = io.BytesIO()
            picture.save(buffer, "WEBP", quality=quality, method=6)
            if len(buffer.getvalue()) <= limit:
                return buffer.getvalue()
        picture = picture.resize((picture.width * 4 // 5, picture.height * 4 // 5), Image.Resampling.LANCZOS)
