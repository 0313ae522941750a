"""The content of the app's tab "Rate": a start page, a page for each item, thanks, and the results."""

import base64
import functools
import html
from pathlib import Path
from typing import Any

from src.app.study import (
    NAMES,
    QUESTIONS,
    SCORES,
    Item,
    Study,
    answer,
    answers,
    as_csv,
    is_complete,
    join,
    open_study,
    order,
    picture,
    plain_id,
    ratings,
)
from src.files import UserError

SECONDS = 30  # that a volunteer takes for a page
WELCOME = """### Rate coloured drawings

You see a line drawing, a reference picture, and the drawing as a computer program coloured it with the reference's colours.
Then you answer {questions} short questions on a scale from 1 to 5. There is no right or wrong: say what you think.

- There are **{pages} pages**. They take about **{minutes} minutes**, and you can stop and go on whenever you like.
- You see results of several programs, in random order. Which one made a picture is not shown.
- Nothing is kept about you but your answers, under a random id.
"""
THANKS = """### Thank you

You have answered all {pages} pages. Your answers are kept; you can close this page. To look at them or to change them, go back.

Your id: `{id}`
"""
STYLE = """<style>
.rate-pictures { display: grid; grid-template-columns: repeat(4, 1fr); gap: .8rem; align-items: end; max-width: 75rem; }
.rate-pictures figure, .rate-pictures img { margin: 0 !important; }
.rate-pictures figcaption { font-size: .9rem; line-height: 1.3; margin-bottom: .3rem; }
.rate-pictures img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; }
.rate-pictures img { background: white; border: 1px solid #8886; border-radius: .3rem; }
.rate-progress { display: flex; flex-wrap: wrap; gap: .2rem 1rem; align-items: center; font-size: .9rem; }
.rate-progress code { white-space: nowrap; }
.rate-bar { flex: 1 1 8rem; height: .5rem; border-radius: .25rem; background: #8884; }
.rate-bar span { display: block; height: 100%; border-radius: .25rem; background: var(--color-accent); }
.rate-scale { --block-title-text-color: var(--body-text-color); --block-info-text-color: var(--body-text-color); }
.rate-scale .wrap { display: grid; grid-template-columns: repeat(5, minmax(0, 5.5rem)); gap: .4rem; }
.rate-charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
.rate-charts img { width: 100%; background: white; } .rate-table { overflow-x: auto; }
.rate-table td, .rate-table th { padding: .3rem .6rem; text-align: left; white-space: nowrap; }
@media (max-width: 700px) { .rate-pictures { grid-template-columns: repeat(2, 1fr); } }
</style>"""
TO_THE_TOP = "() => document.querySelector('#rate-page')?.scrollIntoView({block: 'start'})"


def rate_tab(database: Path, pictures: Path) -> None:
    """Builds the tab's content, within `gr.Tab`, for the study of a folder of pictures; a sentence where there is none.

    Nothing of a page goes through the app's queue: a rating waits for no picture that is being made. No file is served: pictures
    and the CSV file are parts of the page.
    """
    import gradio as gr

    try:
        study = open_study(database, pictures)
    except UserError as error:
        gr.Markdown(f"### There is no rating study here yet\n\n{error}")
        return
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    participant, place = gr.State(""), gr.State(0)
    with gr.Column() as start:
        minutes = max(1, round(len(study.items) * SECONDS / 60))
        gr.Markdown(WELCOME.format(questions=_count(study), pages=len(study.items), minutes=minutes))
        begin = gr.Button("Start", variant="primary", elem_id="rate-start")
        with gr.Row(equal_height=True):
            typed = gr.Textbox(label="I have started before: my id", placeholder="abcde-fghjk", max_length=40, elem_id="rate-id")
            go_on = gr.Button("Go on with my id", elem_id="rate-go-on")
    with gr.Column(visible=False, elem_id="rate-page") as rating:
        progress, shown = gr.HTML(), gr.HTML(elem_id="rate-item")
        radios = []
        for first in (0, 2):
            with gr.Row():
                radios += [_radio(gr, i) for i in (first, first + 1)]
        with gr.Row():
            back = gr.Button("Back", min_width=120, elem_id="rate-back")
            forward = gr.Button("Next", variant="primary", min_width=120, elem_id="rate-next")
    message = gr.Markdown(elem_id="rate-message")
    with gr.Column(visible=False) as thanks:
        thanked = gr.Markdown()
        again = gr.Button("Back to the pages", elem_id="rate-again")
    with gr.Column() as results, gr.Accordion("Results, for those who run the study", open=False, elem_id="rate-results") as opened:
        charts = gr.HTML()
    gr.HTML(STYLE)

    def page(id: str, at: int | None, said: str = "") -> dict[Any, Any]:
        """The page of an item by its place in the volunteer's order (None = the first that is not complete), or the thanks."""
        try:
            items, scores = order(study, id), answers(study, id)
            if at is None:
                open_places = [i for i, item in enumerate(items) if not is_complete(item, scores.get(item.id, {}))]
                at = open_places[0] if open_places else len(items)
            over = at >= len(items)
            item = items[min(at, len(items) - 1)]
            own = scores.get(item.id, {})
            content = _pictures(study, item)
        except UserError as error:
            return start_page(str(error))
        done = sum(is_complete(i, scores.get(i.id, {})) for i in items)
        return {
            participant: id,
            place: min(at, len(items) - 1),
            start: gr.Column(visible=False),
            rating: gr.Column(visible=not over),
            thanks: gr.Column(visible=over),
            results: gr.Column(visible=over),
            progress: _progress(at, len(items), done, id),
            shown: content,
            **{
                radio: gr.Radio(value=own.get(name), visible=name in item.questions)
                for radio, name in zip(radios, NAMES, strict=True)
            },
            back: gr.Button(interactive=at > 0),
            forward: gr.Button("Finish" if at == len(items) - 1 else "Next"),
            message: said,
            thanked: THANKS.format(pages=len(items), id=id) if over else "",
        }

    def start_page(said: str) -> dict[Any, Any]:
        pages = {start: True, rating: False, thanks: False, results: True}
        return {participant: "", message: said, **{column: gr.Column(visible=visible) for column, visible in pages.items()}}

    everything = [participant, place, start, rating, thanks, results, progress, shown, *radios, back, forward, message, thanked]

    def started() -> dict[Any, Any]:
        try:
            return page(join(study), 0)
        except UserError as error:
            return start_page(str(error))

    def gone_on(id: str) -> dict[Any, Any]:
        return page(plain_id(id), None)

    def one_kept(name: str, id: str, at: int, score: int | None) -> str:
        return kept(id, at, {name: score})

    def kept(id: str, at: int, scores: dict[str, int | None]) -> str:
        """Keeps what was answered; a sentence where that fails."""
        try:
            item = order(study, id)[at]
            given = {name: score for name, score in scores.items() if score is not None and name in item.questions}
            answer(study, id, item, given)
        except UserError as error:
            return str(error)
        return ""

    def moved(by: int, id: str, at: int, *scores: int | None) -> dict[Any, Any]:
        if said := kept(id, at, dict(zip(NAMES, scores, strict=True))):
            return start_page(said)
        item = order(study, id)[at]
        missing = [name for name in item.questions if scores[NAMES.index(name)] is None]
        if by > 0 and missing:
            return {message: f"**Not answered yet: {', '.join(missing)}.**"}
        return page(id, at + by)

    begin.click(started, None, everything, **quick)
    gr.on([go_on.click, typed.submit], gone_on, typed, everything, **quick)
    for name, radio in zip(NAMES, radios, strict=True):
        radio.input(functools.partial(one_kept, name), [participant, place, radio], message, **quick)
    for button, by in ((back, -1), (forward, 1)):
        button.click(functools.partial(moved, by), [participant, place, *radios], everything, **quick).then(None, js=TO_THE_TOP)
    again.click(page, [participant, place], everything, **quick)
    opened.expand(functools.partial(_charts, database), None, charts, **quick)


def _radio(gr: Any, i: int) -> Any:
    question = QUESTIONS[i]
    return gr.Radio(
        list(SCORES),
        label=f"{question.name}: {question.text}",
        info=f"1 = {question.lowest}, 5 = {question.highest}",
        min_width=320,
        elem_id=f"rate-{question.name.lower()}",
        elem_classes="rate-scale",
    )


def _count(study: Study) -> str:
    counts = sorted({len(item.questions) for item in study.items.values()})
    return {3: "three", 4: "four"}[counts[0]] if len(counts) == 1 else "three or four"


def _progress(at: int, pages: int, done: int, id: str) -> str:
    return (
        f'<div class="rate-progress"><span>Page {min(at, pages - 1) + 1} of {pages}</span>'
        f'<span class="rate-bar" title="{done} pages answered"><span style="width: {100 * done / pages:.0f}%"></span></span>'
        f"<span>Your id, with which you can go on later: <code>{html.escape(id)}</code></span></div>"
    )


def _pictures(study: Study, item: Item) -> str:
    """The item's pictures side by side. Neither words nor addresses say whose they are."""
    shown = [("Line drawing", item.sketch), ("Reference", item.reference), ("Coloured picture", item.result)]
    if item.edited is not None:
        shown.append((f"Changed picture. The words: <b>{html.escape(item.words)}</b>", item.edited))
    figures = [
        f'<figure><figcaption>{title}</figcaption><img alt="" src="{_address("image/png", picture(study, name))}"></figure>'
        for title, name in shown
    ]
    return f'<div class="rate-pictures">{"".join(figures)}</div>'


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _charts(database: Path) -> str:
    """Both charts of Figure 21, the means as a table, and all ratings as a file to save; or a sentence."""
    from src.app.rating_charts import HEAD, bars, radar, table

    try:
        rows = ratings(database)
    except UserError as error:
        return f"<p>{html.escape(str(error))}</p>"
    volunteers = len({row.participant for row in rows})
    head = "".join(f"<th>{cell}</th>" for cell in HEAD)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table(rows))
    images = [("Mean scores by model", radar(rows)), ("Distribution of scores", bars(rows))]
    figures = [f'<img alt="{title}" src="{_address("image/svg+xml", svg.encode())}">' for title, svg in images]
    return (
        f"<p>Volunteers: {volunteers}, pictures rated: {len(rows)}. "
        "Shades, lines and brackets are 95 % intervals over volunteers.</p>"
        f'<div class="rate-charts">{"".join(figures)}</div>'
        f'<div class="rate-table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p><a id="rate-csv" download="ratings.csv" href="{_address("text/csv", as_csv(rows))}">All ratings as CSV</a></p>'
    )
