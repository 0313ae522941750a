"""The page: its tabs, how they hand pictures on to each other, and how it is served."""

from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from src.app.colorize import colorize_tab
from src.app.compare import compare_tab, methods_of
from src.app.controls import AT_ONCE
from src.app.manipulate import manipulate_tab
from src.app.rate import rate_tab
from src.app.safety import MAX_BYTES, QUEUE, Limits, Page
from src.app.studio import Studio

RATINGS = Path("rating")  # what pipelines/rating makes, and the answers
STYLE = Path(__file__).with_name("style.css")
TITLE = "Colour a drawing"
ABOUT = """# Colour a drawing
Give it a line drawing and a coloured picture. It colours the one with the colours of the other.
"""
DEMO_NOTE = """
The two demo models are small. They know drawings like [OpenMoji](https://openmoji.org)'s at 64 pixels and nothing else: what they
make is small and is shown enlarged. The examples are held-out drawings by OpenMoji, CC BY-SA 4.0.
"""


def build(studio: Studio) -> gr.Blocks:
    """The whole page, which is not served yet."""
    with Page(title=TITLE, analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as page:
        gr.Markdown(ABOUT, elem_id="about")
        with gr.Tabs() as tabs:
            with gr.Tab("Colorize", id="colorize"):
                pair = colorize_tab(studio)
            with gr.Tab("Manipulate", id="manipulate") as tab:
                changed = manipulate_tab(studio, tab)
            with gr.Tab("Compare", id="compare"):
                compare_tab(methods_of(studio))
            with gr.Tab("Rate", id="rate"):
                rate_tab(RATINGS / "ratings.db", RATINGS / "items")
        gr.Markdown(DEMO_NOTE, elem_id="demo-note")
        *pictures, words = pair
        words.click(lambda *pair: (*pair, gr.Tabs(selected="manipulate")), pictures, [*changed, tabs], **AT_ONCE)
    return page


def serve(page: gr.Blocks, studio: Studio, host: str, port: int | None, share: bool, auth: Any) -> str:
    """Serves the page in threads of its own; its address. Port None: the first free one from 7860 on."""
    page.queue(max_size=QUEUE, api_open=False)
    _, address, shared = page.launch(
        server_name=host,
        server_port=port,
        share=share,
        auth=auth,
        auth_message="Any name, and the password.",
        allowed_paths=[str(studio.folder.resolve() / "pictures")],
        max_file_size=MAX_BYTES,
        app_kwargs={"middleware": [Middleware(Limits)]},
        css_paths=STYLE,
        theme=gr.themes.Base(
            primary_hue="orange", neutral_hue="stone", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        footer_links=["api"],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        ssr_mode=False,
        prevent_thread_lock=True,
        inbrowser=False,
        quiet=True,
    )
    return shared or address
