"""The tab Manipulate: a list of text edits of the reference, where each one acts, and what they change."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np

from src.app import controls
from src.app.controls import AT_ONCE, SAMPLES, TOLD, lines_of, needed, plainly, settings_of
from src.app.edits import (
    FIELDS,
    MOST,
    Edits,
    added,
    deleted,
    filled,
    first_edit,
    listed,
    moved_down,
    moved_up,
    named,
    ordered,
    spec_of,
    switched,
)
from src.app.maps import Map, map_of, proposed
from src.app.shown import empty, legend, stage
from src.app.steps import Report, stepwise
from src.app.studio import Made, Studio, make
from src.files import UserError

WORDS = 120  # characters of a text
FIRST = 'Press "Change it": you see the picture before and after.'
SERIES = (0.25, 0.5, 0.75, 1.0)  # of the chosen edit's target scale
ZONES = {
    True: ["stays", "stays, but is near", "changes by up to half", "changes by half and more", "changes fully"],
    False: [
        "changes the other way",
        "changes the other way, less",
        "changes by up to half",
        "changes by half and more",
        "changes fully",
    ],
}


def manipulate_tab(studio: Studio, tab: gr.Tab) -> tuple[gr.Image, gr.Image]:
    """Builds the tab. Gives its sketch and its reference."""
    edits: gr.State = gr.State([first_edit()])
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=300):
            sketch, reference = controls.pair()
            with gr.Row(elem_classes="press"):
                go = gr.Button("Change it", variant="primary", elem_id="compare", min_width=120, scale=2)
                series = gr.Button("Series", min_width=90)
                stop = gr.Button("Stop", min_width=70)
        with gr.Column(scale=5, min_width=300):
            shown = gr.HTML(empty(FIRST), elem_id="changed", padding=False)
            download = gr.DownloadButton("Download", size="sm", interactive=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=300):
            chosen = gr.Radio(
                named([first_edit()]),
                value=0,
                label="Edits, one after the other",
                elem_id="edits",
                info="Choose one to change it below.",
            )
            with gr.Row(elem_classes="press"):
                add = gr.Button("Add", size="sm", min_width=60, elem_id="add")
                up = gr.Button("Up", size="sm", min_width=60)
                down = gr.Button("Down", size="sm", min_width=60)
                off = gr.Button("On / off", size="sm", min_width=60)
                delete = gr.Button("Delete", size="sm", min_width=60)
            form = _form()
        with gr.Column(scale=5, min_width=300):
            with gr.Row(elem_classes="pair"):
                options: dict[str, Any] = {"interactive": False, "height": 250, "min_width": 140, "buttons": [], "format": "png"}
                picture = gr.Image(label="What matches", elem_id="matches", **options)
                zones = gr.Image(label="What changes", elem_id="zones", **options)
            note = gr.Markdown("Click on a place in the left picture: the thresholds follow it.", elem_id="note")
            key = gr.HTML(elem_id="key")
            with gr.Accordion("More controls", open=False), gr.Group():
                model, gs, steps, size, seed = (
                    controls.model(studio), controls.strength_of_colours(), controls.steps(), controls.size(), controls.seed()
                )  # fmt: skip

    maps = [picture, zones, note, key]
    look = [model, reference, edits, chosen]
    outputs = [edits, chosen, *form]
    for button, change in ((add, added), (up, moved_up), (down, moved_down), (off, switched), (delete, deleted)):
        button.click(change, [edits, chosen], outputs, **TOLD).then(_drawn(studio), look, maps, **AT_ONCE)
    chosen.input(filled, [edits, chosen], form, **AT_ONCE).then(_drawn(studio), look, maps, **AT_ONCE)
    for number, field in enumerate(form):
        # A text that was pasted or dictated is told of when the field is left.
        told = [field.input, *([field.blur] if number < 3 else [])]
        gr.on(told, _edited_by(studio, number), [*look, *form], [*outputs, *maps], trigger_mode="always_last", **AT_ONCE)
    for source in (reference, model):
        source.change(_drawn(studio), look, maps, **AT_ONCE)
    tab.select(_drawn(studio), look, maps, **AT_ONCE)
    picture.select(_clicked(studio), [*look, *form], [*outputs, *maps], **TOLD)
    more = [gs, steps, size, seed]
    for button, scales in ((go, (0.0, 1.0)), (series, (0.0, *SERIES))):
        run = button.click(
            _changing(studio, scales),
            [sketch, reference, model, edits, chosen, *more],
            [shown, download],
            api_visibility="private",
            **SAMPLES,
        )
        stop.click(lambda: empty("Stopped. " + FIRST), None, shown, cancels=[run], **AT_ONCE)
    _endpoints(studio, sketch, reference, model, more, first_edit())
    return sketch, reference


def _form() -> list[Any]:
    """The fields of an edit, in the order of FIELDS and then the thresholds."""
    edit = first_edit()
    with gr.Group():
        target = gr.Textbox(
            edit["target"], label="It shall become", info="Target: a colour and a part.", max_length=WORDS, elem_id="target"
        )
        with gr.Row():
            anchor = gr.Textbox(
                edit["anchor"], label="What it is now", info="Anchor. May be empty.", max_length=WORDS, min_width=140
            )
            control = gr.Textbox(
                edit["control"], label="Where", info="Control, or “everything”.", max_length=WORDS, min_width=140, elem_id="control"
            )
        scale = gr.Slider(-20, 20, edit["target_scale"], step=0.5, label="How much", info="Target scale. 4 to 15 are reasonable.")
        enhance = gr.Checkbox(edit["enhance"], label="Stronger", info="Enhance: the stronger variant of the edit.")
    with gr.Group(elem_id="thresholds"), gr.Row():
        names = ("Nothing below", "Starts at", "Half at", "All from")
        thresholds = [
            gr.Slider(
                0, 1, ts, step=0.01, label=name, info=f"Threshold ts{i} (Eq. 10).", buttons=[], min_width=220, elem_id=f"ts{i}"
            )
            for i, (name, ts) in enumerate(zip(names, edit["thresholds"], strict=True))
        ]
    return [target, anchor, control, scale, enhance, *thresholds]


def _edited_by(studio: Studio, number: int) -> Any:
    def edited(model: str, reference: Any, edits: Edits, chosen: int, *values: Any) -> list[Any]:
        fields, thresholds = values[: len(FIELDS)], [float(ts) for ts in values[len(FIELDS) :]]
        if number >= len(FIELDS):
            thresholds = ordered(thresholds, number - len(FIELDS))
        edits = [*edits]
        edits[chosen] = {**edits[chosen], **dict(zip(FIELDS, fields, strict=True)), "thresholds": thresholds}
        shown = listed(edits, chosen)
        # What comes back late would undo the last letters of a text, or pull a handle back.
        for field in range(len(values)) if number < 3 else [number]:
            shown[2 + field] = gr.skip()
        return [*shown, *_map(studio, model, reference, edits, chosen)]

    return edited


def _drawn(studio: Studio) -> Any:
    def drawn(model: str, reference: Any, edits: Edits, chosen: int) -> list[Any]:
        return _map(studio, model, reference, edits, chosen)

    return drawn


def _clicked(studio: Studio) -> Any:
    def clicked(event: gr.SelectData, model: str, reference: Any, edits: Edits, chosen: int, *_: Any) -> list[Any]:
        try:
            found = _found(studio, model, reference, edits, chosen)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        column, row = (
            min(count - 1, max(0, int(place) * count // size))
            for place, count, size in zip(event.index, found.matches.shape[::-1], found.picture.shape[1::-1], strict=True)
        )
        edits = [*edits]
        edits[chosen] = {**edits[chosen], "thresholds": proposed(found.matches, row, column, found.ratio)}
        return [*listed(edits, chosen), *_map(studio, model, reference, edits, chosen)]

    return clicked


def _found(studio: Studio, model: str, reference: Any, edits: Edits, chosen: int) -> Map:
    before = [spec_of(edit) for edit in edits[:chosen] if edit["on"] and edit["target"].strip() and edit["control"].strip()]
    return map_of(studio, model, needed(reference, "reference"), [*before, spec_of(edits[chosen])])


def _map(studio: Studio, model: str, reference: Any, edits: Edits, chosen: int) -> list[Any]:
    """What the places of the map show: the pictures, a note and the legend; the note alone where there is no map."""
    try:
        found = _found(studio, model, reference, edits, chosen)
    except UserError as error:
        return [None, None, str(error), ""]
    note = "Click on a place in the left picture: the thresholds follow it."
    if found.unknown:
        note = f"The model has never seen some of these words: {'; '.join(found.unknown)}."
    from src.manipulation.heatmaps import zone_colours

    return [found.picture, found.zones, note, legend(zone_colours(), ZONES[found.ratio == 0])]


def series_of(
    studio: Studio,
    sketch: Any,
    reference: Any,
    model: str,
    edits: Edits,
    chosen: int,
    choices: dict[str, Any],
    scales: tuple[float, ...],
) -> Iterator[tuple[list[tuple[Made, str]], np.ndarray | None, float]]:
    """One picture for each share of the chosen edit's target scale, 0 being without any edit: those done, a preview, the share."""
    lines, colours = lines_of(needed(sketch, "drawing")), needed(reference, "reference")
    active = [(i, spec_of(edit)) for i, edit in enumerate(edits) if edit.get("on", True)]
    if not active:
        raise UserError("There is no edit that is switched on: add one, or switch one on.")

    def job(report: Report[Any]) -> None:
        done: list[tuple[Made, str]] = []
        latest: np.ndarray | None = None

        def progress(step: int, steps: int, preview: np.ndarray | None) -> None:
            nonlocal latest
            latest = latest if preview is None else preview
            report(([*done], latest, (len(done) + step / steps) / len(scales)))

        for share in scales:
            specs = [
                spec if i != chosen or share == 1 else {**spec, "target_scale": share * spec["target_scale"]} for i, spec in active
            ]
            name = "Before" if not share else "After" if len(scales) == 2 else f"{share:.0%}"
            done.append((make(studio, model, choices, lines, colours, progress, specs if share else []), name))
            latest = None
        report((done, None, 1.0))

    return stepwise(job)


def _changing(studio: Studio, scales: tuple[float, ...]) -> Any:
    @plainly
    def changing(
        sketch: Any, reference: Any, model: str, edits: Edits, chosen: int, gs: float, steps: int, size: int, seed: int
    ) -> Iterator[Any]:
        yield empty("Getting ready ..."), gr.skip()
        choices = {**settings_of(gs, steps=steps, size=size), "seed": int(seed)}
        done: list[tuple[Made, str]] = []
        for done, preview, share in series_of(studio, sketch, reference, model, edits, chosen, choices, scales):
            pictures = [(one.pixels, name) for one, name in done] + ([] if preview is None else [(preview, "...")])
            yield stage(pictures, f"Colouring: {share:.0%}", share), gr.skip()
        words = "Done." if len(scales) == 2 else "Done. Shares are of the chosen edit's target scale."
        final = str(done[-1][0].path)
        yield stage([(one.pixels, name) for one, name in done], words), gr.DownloadButton(value=final, interactive=True)

    return changing


def _endpoints(
    studio: Studio, sketch: gr.Image, reference: gr.Image, model: gr.Dropdown, more: list[Any], edit: dict[str, Any]
) -> None:
    """The API's `manipulate` and `heatmap`."""
    specs = gr.JSON([spec_of(edit)], label="edits", visible=False)

    @plainly
    def manipulate(
        sketch: Any, reference: Any, edits: Any, model: str, gs: float, steps: int, size: int, seed: int
    ) -> Iterator[Any]:
        """Colours a line drawing after text edits of the reference: a PNG file with its recipe."""
        if not isinstance(edits, list) or not 0 < len(edits) <= MOST or not all(isinstance(one, dict) for one in edits):
            raise UserError(
                f"edits need to be a list of 1 to {MOST} edits, such as {{target: red hair, control: hair, target_scale: 8}}."
            )
        choices = {**settings_of(gs, steps=steps, size=size), "seed": int(seed)}
        done: list[tuple[Made, str]] = []
        for done, _, _ in series_of(studio, sketch, reference, model, edits, 0, choices, (1.0,)):  # noqa: B007
            yield gr.skip()
        yield str(done[-1][0].path)

    def heatmap(reference: Any, control: str, thresholds: Any, model: str) -> tuple[np.ndarray, np.ndarray]:
        """Where in the reference the words of `control` match, and the five zones of Eq. 10: two pictures. Runs no diffusion."""
        try:
            found = map_of(studio, model, needed(reference, "reference"), [{"control": control, "thresholds": thresholds}])
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return found.picture, found.zones

    file = gr.File(label="picture", visible=False)
    gr.Button(visible=False).click(manipulate, [sketch, reference, specs, model, *more], file, api_name="manipulate", **SAMPLES)
    control = gr.Textbox(edit["control"], label="control", max_length=WORDS, visible=False)
    thresholds = gr.JSON(edit["thresholds"], label="thresholds", visible=False)
    outputs = [gr.Image(label="matches", format="png", visible=False), gr.Image(label="zones", format="png", visible=False)]
    gr.Button(visible=False).click(heatmap, [reference, control, thresholds, model], outputs, api_name="heatmap", queue=False)
