"""The tab Compare: one pair through several methods, side by side."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gradio as gr
import numpy as np

from src.app import controls
from src.app.controls import AT_ONCE, SAMPLES, lines_of, needed, plainly, settings_of
from src.app.shown import empty, stage
from src.app.steps import Report, stepwise
from src.app.studio import DEMO, Progress, Studio, colored_once, settings
from src.baselines.weights import rows
from src.config import compose
from src.files import UserError
from src.methods import Batch, Cell, Words
from src.sampling.batch import devices

# A method: sketch uint8 [H, W], reference uint8 [H, W, 3], words, seed, progress -> uint8 [H, W, 3]. `words` are for methods that
# read text. A method tells `progress(step, steps, None)` of its steps if it can: that is where it is stopped.
Method = Callable[[np.ndarray, np.ndarray, str, int, Progress], np.ndarray]

FIRST = 'Choose methods and press "Compare".'


def checkpoint_method(studio: Studio, name: str) -> Method:
    """A checkpoint as a method, with the settings of Colorize. It reads no words."""

    def method(sketch: np.ndarray, reference: np.ndarray, words: str, seed: int, progress: Progress) -> np.ndarray:
        wanted = {**settings(), **settings_of(gs=2), "seed": seed}
        return colored_once(studio.model(name), wanted, {"sketch": sketch, "reference": reference}, progress)[1]

    return method


def baseline_method(row: str) -> Method:
    """A row of `conf/baseline` as a method, loaded when it is first used. The words are its prompt where it reads one."""

    @functools.cache
    def loaded() -> Any:
        from src.baselines.method import Baseline

        return Baseline(compose([f"baseline={row}", "sampler=karras"], "evaluate")).on(devices()[0])

    def method(sketch: np.ndarray, reference: np.ndarray, words: str, seed: int, progress: Progress) -> np.ndarray:
        said = [Words(words)]
        batch = Batch(sketch[None], [seed], None, reference[None], said, said)
        baseline = loaded()
        return baseline(batch, Cell(None), lambda step, _: progress(step, baseline.steps, None))[0]

    return method


def methods_of(studio: Studio) -> dict[str, Method]:
    """All checkpoints that were found, and the baselines, by the names that people see."""
    ours = {DEMO.get(name, name): checkpoint_method(studio, name) for name in studio.checkpoints}
    others = {name: baseline_method(row) for row, name in rows(compose([], "evaluate").weights).items() if row != "text_shuffled"}
    return ours | others


def compare_tab(methods: Mapping[str, Method]) -> tuple[gr.Image, gr.Image]:
    """Builds the tab. Gives its sketch and its reference."""
    names = list(methods)
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=300):
            sketch, reference = controls.pair()
            with gr.Row(elem_classes="press"):
                go = gr.Button("Compare", variant="primary", elem_id="side", scale=3, min_width=120)
                stop = gr.Button("Stop", scale=1, min_width=80)
            chosen = gr.CheckboxGroup(names, value=names[:4], label="Methods", info="Models that were found here, and baselines.")
            words = gr.Textbox(label="Words", info="Prompt, for methods that read text. May be empty.", max_length=200)
            seed = controls.seed()
        with gr.Column(scale=5, min_width=300):
            shown = gr.HTML(empty(FIRST), elem_id="compared", padding=False)

    run = go.click(_comparing(methods), [sketch, reference, words, seed, chosen], shown, api_visibility="private", **SAMPLES)
    stop.click(lambda: empty("Stopped. " + FIRST), None, shown, cancels=[run], **AT_ONCE)
    return sketch, reference


def _comparing(methods: Mapping[str, Method]) -> Any:
    @plainly
    def comparing(sketch: Any, reference: Any, words: str, seed: int, chosen: list[str]) -> Iterator[str]:
        lines, colours = lines_of(needed(sketch, "drawing")), needed(reference, "reference")
        if not chosen:
            raise UserError("No method is chosen: tick one or more.")
        yield empty("Getting ready ...")

        def job(report: Report[tuple[list[tuple[np.ndarray, str]], float]]) -> None:
            done: list[tuple[np.ndarray, str]] = []

            def progress(step: int, steps: int, preview: np.ndarray | None) -> None:
                report(([*done], (len(done) + step / steps) / len(chosen)))

            for name in chosen:
                done.append((methods[name](lines, colours, words, int(seed), progress), name))
                report(([*done], len(done) / len(chosen)))

        done: list[tuple[np.ndarray, str]] = []
        for done, share in stepwise(job):
            yield stage(done, f"{len(done)} of {len(chosen)} methods", share)
        yield stage(done, "Done.")

    return comparing
