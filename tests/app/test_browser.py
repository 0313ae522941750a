"""The app in a browser, as a person uses it: `make test-browser`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser
LONG = 60_000  # ms


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: sync_api.Browser, address: str) -> Iterator[sync_api.Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(LONG)
    page.goto(address)
    page.wait_for_selector("#go")
    yield page
    page.close()


def source(page: sync_api.Page, selector: str) -> str:
    return page.locator(f"{selector} img").first.get_attribute("src") or ""


def test_an_example_is_coloured_and_becomes_the_reference(page: sync_api.Page) -> None:
    first = source(page, ".sketch")
    page.locator("#examples tr:has(td)").nth(3).click()
    page.wait_for_function("old => document.querySelector('.sketch img').src !== old", arg=first)
    reference = source(page, ".reference")
    page.click("#go")
    page.locator("#result").get_by_text("Done.").wait_for()
    assert source(page, "#result").startswith("data:image/png;base64,")
    page.locator("#history img").first.wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").first.click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
    page.get_by_role("button", name="Use as reference").click()
    page.wait_for_function("old => document.querySelector('.reference img').src !== old", arg=reference)


def test_an_edit_is_added_and_the_map_follows_the_thresholds(page: sync_api.Page) -> None:
    page.get_by_role("tab", name="Manipulate").click()
    page.wait_for_selector("#zones img")
    page.click("#add")
    page.locator("#edits").get_by_text("2.").wait_for()
    page.locator("#target input, #target textarea").press_sequentially("blue skin")
    page.locator("#edits").get_by_text("2. blue skin").wait_for()
    page.locator("#control input, #control textarea").press_sequentially("skin")
    page.wait_for_selector("#zones img")
    zones = source(page, "#zones")
    page.locator("#ts3 input[type=number]").fill("0.35")
    page.locator("#ts3 input[type=number]").press("Tab")
    page.wait_for_function("old => document.querySelector('#zones img').src !== old", arg=zones)
    # Those below it went along.
    page.wait_for_function("document.querySelector('#ts1 input[type=number]').value === '0.35'")
    page.wait_for_timeout(2000)  # an answer that is under way would undo the click
    zones = source(page, "#zones")
    page.locator("#matches img").click(position={"x": 100, "y": 60})
    page.wait_for_function("old => document.querySelector('#zones img').src !== old", arg=zones)
    page.click("#compare")
    page.locator("#changed").get_by_text("Done.").wait_for()
    assert page.locator("#changed img").count() == 2


def test_methods_are_compared(page: sync_api.Page) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.click("#side")
    page.locator("#compared").get_by_text("Done.").wait_for()
    assert page.locator("#compared img").count() >= 2


@pytest.mark.parametrize(
    "name, words",
    [("large", "exceed the maximum allowed size of 20.0 Mb"), ("text", "no picture that can be read"), ("wide", "40000 x 8")],
)
def test_what_cannot_be_taken_is_refused_in_a_sentence(page: sync_api.Page, tmp_path: Path, name: str, words: str) -> None:
    path = tmp_path / f"{name}.png"
    if name == "wide":
        Image.new("1", (40_000, 8)).save(path)
    else:
        path.write_text("hello")
    if name == "large":
        with path.open("r+b") as file:
            file.truncate(200 * 2**20)
    page.locator(".sketch button[aria-label='Clear'], .sketch button[aria-label='Remove Image']").first.click()
    page.locator(".sketch input[type=file]").first.set_input_files(path)
    page.get_by_text(words).first.wait_for()
    assert page.locator(".sketch img").count() == 0


def test_ours_beside_a_baseline(page: sync_api.Page) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_selector("#side")
    for box in page.get_by_role("checkbox").all():
        if box.is_visible() and box.is_checked():
            box.uncheck()
    for name in ("Noisy", "CN-Anime + Anything v3 + IP-Adapter, GS-3"):
        page.get_by_role("checkbox", name=name).first.check()
    page.click("#side")
    page.locator("#compared").get_by_text("Done.").wait_for(timeout=2 * LONG)
    assert page.locator("#compared figure").count() == 2


def test_nothing_is_wider_than_a_phone(page: sync_api.Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for tab in ("Colorize", "Manipulate", "Compare", "Rate"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
