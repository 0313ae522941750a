"""U-Net evaluations a second of the demo colorizers, by batch; and channels-last against the default layout, in one run."""

import time
from pathlib import Path

import torch

from src.backbone.parts import fingerprint
from src.config import compose
from src.model.colorizer import Colorizer, load_colorizer


def rate(colorizer: Colorizer, batch: int, layout: torch.memory_format, seconds: float = 4.0) -> float:
    colorizer.to(memory_format=layout)
    z = torch.randn(batch, 4, 16, 16).contiguous(memory_format=layout)
    t = torch.full((batch,), 500)
    tokens = colorizer.used(torch.randn(batch, 65, 128))
    with torch.inference_mode():
        features = [f.contiguous(memory_format=layout) for f in colorizer.features(torch.zeros(batch, 3, 64, 64))]
        colorizer(z, t, tokens, features)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            colorizer(z, t, tokens, features)
            count += batch
        return count / (time.perf_counter() - began)


def main() -> None:
    directory = Path(compose().backbone.directory)
    print(f"{torch.get_num_threads()} threads")
    for name in ("noisy", "cls"):
        colorizer, _ = load_colorizer(directory / name / "model", fingerprint({"directory": directory}))
        for batch in (1, 16, 64, 128):
            last, default = (rate(colorizer, batch, layout) for layout in (torch.channels_last, torch.contiguous_format))
            print(
                f"{name}, batch {batch}: {last:.0f} evaluations/s channels-last, {default:.0f} default, ratio {last / default:.2f}"
            )


if __name__ == "__main__":
    main()
