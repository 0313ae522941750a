"""The rating study as a volunteer sees it, in a browser."""

import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.app.study import Study, answers, ratings

pytestmark = pytest.mark.browser


@pytest.fixture
def page(study: Study) -> Iterator[Any]:
    """The tab's content as a page of its own."""
    import gradio as gr
    from playwright.sync_api import sync_playwright

    from src.app.rate import rate_tab

    with gr.Blocks() as app:
        rate_tab(study.database, study.pictures)
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page()
            page.set_default_timeout(60_000)
            page.goto(url)
            yield page
            browser.close()
    finally:
        app.close()


def rate(page: Any, score: int) -> None:
    """Answers the questions of the page that is shown."""
    for question in ("quality", "similarity", "usability", "controllability"):
        scale = page.locator(f"#rate-{question}")
        if scale.is_visible():
            scale.get_by_label(str(score), exact=True).check()


def at(page: Any, number: int) -> None:
    page.get_by_text(f"Page {number} of 9").wait_for()


def test_a_volunteer_rates_comes_back_and_sees_the_charts(page: Any, study: Study) -> None:
    page.click("#rate-start")
    at(page, 1)
    id = page.locator(".rate-progress code").inner_text()
    assert not any(model in page.locator("#rate-item").inner_html() for model in ("Noisy", "CLS", "T2I"))
    page.click("#rate-next")
    page.get_by_text("Not answered yet: Quality, Similarity, Usability").wait_for()
    for number in (1, 2):
        at(page, number)
        rate(page, 3 + number)
        page.click("#rate-next")
    at(page, 3)
    page.locator("#rate-quality").get_by_label("2", exact=True).check()
    page.wait_for_timeout(1000)  # an answer is kept when it is given, not when the page is left
    assert sum(scores == {"Quality": 2} for scores in answers(study, id).values()) == 1
    page.reload()
    page.locator("#rate-id input, #rate-id textarea").fill(f" {id.upper()} ")
    page.click("#rate-go-on")
    at(page, 3)
    assert page.locator("#rate-quality").get_by_label("2", exact=True).is_checked()
    page.click("#rate-back")
    at(page, 2)
    rate(page, 1)  # in place of 5
    page.click("#rate-next")
    for number in range(3, 10):
        at(page, number)
        rate(page, 3)
        page.click("#rate-next")
    page.get_by_text("You have answered all 9 pages.").wait_for()
    assert len(ratings(study.database)) == 9
    page.get_by_text("Results, for those who run the study").click()
    page.locator("#rate-csv").wait_for()
    sizes = page.eval_on_selector_all(".rate-charts img", "images => images.map(image => image.naturalWidth)")
    assert len(sizes) == 2 and all(sizes)
    with page.expect_download() as download:
        page.click("#rate-csv")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8-sig"))))
    assert sorted(row["quality"] for row in rows) == ["1", *"3333333", "4"] and id not in str(rows)


def test_an_unknown_id_is_told_so(page: Any) -> None:
    page.locator("#rate-id input, #rate-id textarea").fill("nobody")
    page.click("#rate-go-on")
    page.get_by_text("There is no such id in this study.").wait_for()
    assert page.locator("#rate-start").is_visible()
