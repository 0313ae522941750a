"""The tab Colorize: a drawing and a reference become a coloured drawing."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np
from gradio.utils import LRUCache

from src.app import controls
from src.app.controls import AT_ONCE, SAMPLES, TOLD, lines_of, needed, plainly, settings_of
from src.app.shown import empty, stage
from src.app.steps import Report, stepwise
from src.app.studio import Made, Studio, make
from src.data.lines import xdog
from src.files import UserError

FIRST = 'Press "Colour it". The first picture takes a few seconds.'
HISTORY = 24
MOST = 8  # pictures of one press


def colorize_tab(studio: Studio) -> tuple[gr.Image, gr.Image, gr.Button]:
    """Builds the tab. Gives the sketch, the reference and the button that takes both to the next tab."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=300):
            sketch, reference = controls.pair()
            with gr.Row(elem_classes="press"):
                go = gr.Button("Colour it", variant="primary", size="lg", elem_id="go", scale=3, min_width=120)
                stop = gr.Button("Stop", size="lg", scale=1, min_width=80)
        with gr.Column(scale=5, min_width=300):
            shown = gr.HTML(empty(FIRST), elem_id="result", padding=False)
            with gr.Row(elem_classes="press"):
                download = gr.DownloadButton("Download", size="sm", interactive=False, min_width=90)
                reuse = gr.Button("Use as reference", size="sm", min_width=90)
                words = gr.Button("Change it by words", size="sm", min_width=90)
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=300):
            controls.examples(sketch, reference)
            with gr.Accordion("No line drawing at hand?", open=False):
                gr.Markdown("Put a coloured picture into “Your drawing” and take its lines, or draw here.")
                extract = gr.Button("Take the lines of the picture in “Your drawing”", size="sm")
                canvas = _canvas()
                drawn = gr.Button("Use what I drew", size="sm")
            with gr.Accordion("More controls", open=False, elem_id="more"), gr.Group():
                model, gs = controls.model(studio), controls.strength_of_colours()
                rest = controls.advanced()
                seed = controls.seed()
                variants = gr.Slider(1, MOST, 1, step=1, precision=0, label="How many pictures", info="With the next seeds.")
        with gr.Column(scale=5, min_width=300):
            gallery = gr.Gallery(
                label="What you made", columns=4, height=230, object_fit="contain", elem_id="history", buttons=[], preview=False
            )
            gr.Markdown(
                "A downloaded picture holds its recipe: `python -m src.sample from_png=picture.png output=again.png` repeats it."
            )
    made: gr.State = gr.State([])  # paths of this visitor's pictures, the newest first
    chosen: gr.State = gr.State(None)

    inputs = [sketch, reference, model, gs, *rest, seed, variants]
    run = go.click(
        _coloring(studio), [*inputs, made], [shown, gallery, made, chosen, download], api_visibility="private", **SAMPLES
    )
    stop.click(lambda: empty("Stopped. " + FIRST), None, shown, cancels=[run], **AT_ONCE)
    gallery.select(_pick, made, [chosen, download], **AT_ONCE)
    reuse.click(lambda path: path or gr.skip(), chosen, reference, **AT_ONCE)
    extract.click(_extracted, sketch, sketch, **TOLD)
    drawn.click(lambda drawing: gr.skip() if drawing["composite"] is None else drawing["composite"], canvas, sketch, **AT_ONCE)
    _endpoint(studio, inputs)
    return sketch, reference, words


def variants_of(
    studio: Studio, sketch: str | None, reference: str | None, model: str, gs: float, *rest: Any
) -> Iterator[tuple[list[Made], np.ndarray | None, float]]:
    """The pictures of one press, one after the other: those that are done, a preview, and the share of the work that is done."""
    *others, seed, count = rest
    lines, colours = lines_of(needed(sketch, "drawing")), needed(reference, "reference")
    choices, count = settings_of(gs, *others), max(1, min(MOST, int(count)))

    def job(report: Report[tuple[list[Made], np.ndarray | None, float]]) -> None:
        done: list[Made] = []
        latest: np.ndarray | None = None

        def progress(step: int, steps: int, preview: np.ndarray | None) -> None:
            nonlocal latest
            latest = latest if preview is None else preview
            report(([*done], latest, (len(done) + step / steps) / count))

        for number in range(count):
            done.append(make(studio, model, {**choices, "seed": int(seed) + number}, lines, colours, progress))
            latest = None
        report((done, None, 1.0))

    return stepwise(job)


def _coloring(studio: Studio) -> Any:
    @plainly
    def coloring(*values: Any) -> Iterator[Any]:
        *inputs, made = values
        yield empty("Getting ready ..."), gr.skip(), gr.skip(), gr.skip(), gr.skip()
        done: list[Made] = []
        for done, preview, share in variants_of(studio, *inputs):
            pictures = [*_captioned(done, inputs[-1]), *([] if preview is None else [(preview, "")])]
            yield stage(pictures, f"Colouring: {share:.0%}", share), gr.skip(), gr.skip(), gr.skip(), gr.skip()
        history = list(dict.fromkeys([*(str(one.path) for one in reversed(done)), *made]))[:HISTORY]
        newest, (height, width) = str(done[-1].path), done[-1].pixels.shape[:2]
        last = stage(_captioned(done, inputs[-1]), f"Done. {width} x {height} pixels, shown larger.")
        yield last, history, history, newest, gr.DownloadButton(value=newest, interactive=True)

    return coloring


def _captioned(done: list[Made], count: int) -> list[tuple[np.ndarray, str]]:
    return [(one.pixels, f"Seed {one.seed}" if count > 1 else "") for one in done]


def _pick(made: list[str], event: gr.SelectData) -> tuple[Any, Any]:
    if not isinstance(event.index, int) or not 0 <= event.index < len(made):
        return gr.skip(), gr.skip()
    return made[event.index], gr.DownloadButton(value=made[event.index], interactive=True)


def _canvas() -> gr.Sketchpad:
    canvas = gr.Sketchpad(label="Draw here", height=360, canvas_size=(512, 512), layers=False, transforms=(), image_mode="RGB")
    canvas.blob_storage = LRUCache(4)  # drawings that were sent and not asked for yet; Gradio would keep all of them
    return canvas


def _extracted(path: str | None) -> np.ndarray:
    try:
        picture = needed(path, "drawing")
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from None
    # The filter's width is meant for lines of 2 px in a drawing of 64 px.
    return xdog(picture, sigma=0.7 * min(8, max(1, min(picture.shape[:2]) / 64)))


def _endpoint(studio: Studio, inputs: list[Any]) -> None:
    """The API's `colorize`, which gives the last picture of a press as a file."""

    @plainly
    def colorize(
        sketch: Any, reference: Any, model: str, gs: float, sgs: float, steps: int, sampler: str, sigmas: str, noise_level: str,
        strength: float, injection: bool, adain: list[str], size: int, clean: bool, seed: int, variants: int,
    ) -> Iterator[Any]:  # fmt: skip
        """Colours a line drawing with the colours of a reference: PNG files with their recipes, one for each variant."""
        rest = (sgs, steps, sampler, sigmas, noise_level, strength, injection, adain, size, clean, seed, variants)
        done: list[Made] = []
        for done, _, _ in variants_of(studio, sketch, reference, model, gs, *rest):  # noqa: B007
            yield gr.skip()
        yield [str(one.path) for one in done]

    files = gr.File(label="pictures", file_count="multiple", visible=False)
    gr.Button(visible=False).click(colorize, inputs, files, api_name="colorize", **SAMPLES)
