"""The controls of a picture, each in plain words with the paper's term below, and the settings that their values mean."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from src.app.safety import read_picture
from src.app.studio import Studio, labels
from src.data.lines import LUMA
from src.files import UserError

EXAMPLES = Path(__file__).parent / "examples"
# What samples: one at a time, in the order of the requests. What does not goes around the queue.
SAMPLES: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "sampling", "show_progress": "minimal"}
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

# What may be refused without sampling: the page shows errors of queued events alone. It waits for nothing there.
TOLD: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}


def pair() -> tuple[gr.Image, gr.Image]:
    """The sketch and the reference, with the first example in them; `needed` reads what they hold."""
    with gr.Row(elem_classes="pair"):
        options: dict[str, Any] = {"sources": ["upload", "clipboard"], "height": 250, "min_width": 140, "buttons": []}
        options |= {"type": "filepath", "image_mode": None, "format": "png"}
        sketch = gr.Image(str(EXAMPLES / "elf.sketch.png"), label="Your drawing", elem_classes="sketch", **options)
        reference = gr.Image(str(EXAMPLES / "elf.reference.png"), label="Colours from", elem_classes="reference", **options)
    for one in (sketch, reference):
        # That `Page` looks at it is the check. What is refused does not stay on the page.
        one.upload(lambda _: None, one, None, **TOLD).failure(lambda: None, None, one, **AT_ONCE)
    return sketch, reference


def examples(sketch: gr.Image, reference: gr.Image) -> None:
    pairs = [[path, path.with_name(path.name.replace(".sketch", ".reference"))] for path in sorted(EXAMPLES.glob("*.sketch.png"))]
    shown = [[str(path) for path in one] for one in pairs]
    gr.Examples(shown, [sketch, reference], label="Or try one of these", elem_id="examples", api_visibility="private")


def model(studio: Studio) -> gr.Dropdown:
    names = labels(studio)
    return gr.Dropdown(names, value=names[0][1], label="Model", info="The checkpoint that paints.")


def strength_of_colours() -> gr.Slider:
    return gr.Slider(1, 10, 2, step=0.5, label="How strongly the colours count", info="GS, guidance scale. 1 is off.")


def size() -> gr.Slider:
    return gr.Slider(
        32, 1024, 96, step=16, precision=0, label="Size in pixels", info="Of the shorter side. 1.5 times the training size is best."
    )


def steps() -> gr.Slider:
    return gr.Slider(2, 100, 20, step=1, precision=0, label="Steps", info="Sampling steps. More are slower, and at times cleaner.")


def seed() -> gr.Number:
    return gr.Number(
        0, label="Seed", precision=0, minimum=0, maximum=2**53, info="Which noise it starts from: another number, another picture."
    )


def advanced() -> list[gr.components.Component]:
    """All other controls, in the order of `settings_of`'s arguments."""
    blocks = [*(f"down.{i}" for i in range(3)), "middle", *(f"up.{i}" for i in range(3)), "final"]
    return [
        gr.Slider(1, 10, 1, step=0.5, label="How strongly the lines count", info="SGS, guidance scale of the sketch. 1 is off."),
        steps(),
        gr.Dropdown(
            [("DPM-Solver++ 2M", "dpmpp_2m"), ("The same with noise", "dpmpp_2m_sde"), ("DDIM", "ddim"), ("Euler", "euler")],
            value="dpmpp_2m",
            label="Way of sampling",
            info="The solver.",
        ),
        gr.Dropdown([("VP", "vp"), ("Karras", "karras")], value="vp", label="Spacing of the steps", info="Sigmas: VP or Karras."),
        gr.Dropdown(
            [("as the model was trained", "auto"), *((str(share), str(share)) for share in (0, 0.25, 0.5, 0.75, 1))],
            value="auto",
            label="Blur the reference's places",
            info="Noise level of noisy sampling (Eq. 14). More keeps closer to your lines.",
        ),
        gr.Slider(0, 2, 1, step=0.05, label="How much of the reference", info="Strength: a factor of its tokens. 1 is as trained."),
        gr.Checkbox(False, label="Take its texture too", info="Attention injection (supplement, 1)."),
        gr.Dropdown(blocks, value=[], multiselect=True, label="Take its tones too", info="AdaIN, at these blocks of the U-Net."),
        size(),
        gr.Checkbox(False, label="My drawing is a photo or a scan", info="Makes the paper white and the lines black first."),
    ]


def settings_of(
    gs: float,
    sgs: float = 1,
    steps: int = 20,
    sampler: str = "dpmpp_2m",
    sigmas: str = "vp",
    noise_level: str = "auto",
    strength: float = 1,
    injection: bool = False,
    adain: list[str] | None = None,
    size: int = 96,
    clean: bool = False,
) -> dict[str, Any]:
    """What the controls say, as values of `conf/sample.yaml`."""
    from src.app.studio import settings

    return {
        "gs": gs,
        "sgs": sgs,
        "sampler": {**settings()["sampler"], "solver": sampler, "sigmas": sigmas, "steps": int(steps)},
        "noise_level": noise_level if noise_level == "auto" else float(noise_level),
        "strength": strength,
        "style": {**settings()["style"], "injection": injection, "adain": adain or []},
        "size": int(size),
        "clean": clean,
    }


def lines_of(sketch: np.ndarray) -> np.ndarray:
    """uint8 [H, W] of a picture uint8 [H, W, 3]: its brightness."""
    return np.rint(sketch.astype(np.float32) @ LUMA).astype(np.uint8)


def needed(path: str | None, what: str) -> np.ndarray:
    """uint8 [H, W, 3] of what `pair` holds."""
    if path is None:
        raise UserError(f"There is no {what} yet: choose a file, or one of the examples.")
    return read_picture(path)


def plainly(job: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Shows the sentence of a UserError to whoever asked; of any other error they learn only that it happened."""

    @functools.wraps(job)
    def run(*values: Any) -> Iterator[Any]:
        try:
            yield from job(*values)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return run
