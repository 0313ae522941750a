"""Stage: measures of the distribution problem on made-up results of known answer. `python -m pipelines.validate_metrics`."""

from pathlib import Path
from typing import Any

import numpy as np

from pipelines import params, run_stage
from src.config import compose
from src.files import write_json
from src.report import save_png, write_text
from src.validation import cases, choices, grid, held_out, measure, page, summary

OUT = Path("reports/metrics")


def main(_: list[str]) -> None:
    import torch

    from src.backbone.parts import load_backbone, to_input

    values = params()
    config = compose(["data=openmoji"])  # whatever the pipeline runs on: only there the answer is known
    backbone = load_backbone(config.backbone)

    def through(function: Any, images: np.ndarray) -> np.ndarray:
        batches = torch.from_numpy(images).split(32)
        with torch.inference_mode():
            return torch.cat([function(to_input(batch)) for batch in batches]).numpy()

    drawings = held_out(values["validation"]["drawings"], config.data.size, config.data.seed, config.data.val_share)
    made = cases(drawings, lambda images: through(lambda x: backbone.decode(backbone.encode(x)[0]), images))
    numbers = measure(drawings, made, lambda images: through(lambda x: backbone.tokens(x)[:, 0], images), values["seed"])
    report = summary(numbers, choices(drawings, values["seed"]))
    OUT.mkdir(parents=True, exist_ok=True)
    write_json(OUT / "validation.json", report)
    write_text(OUT / "validation.md", page(report))
    save_png(OUT / "cases.png", grid(drawings, made))


if __name__ == "__main__":
    run_stage(main)
