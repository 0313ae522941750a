"""Pages: the same blocks as Markdown and as one HTML file."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from src.document import Bullets, Figure, Heading, Table, Text, markdown, page

BLOCKS = [
    Heading(1, "Report <1>"),
    Text("A `code`, **bold** and [link](https://example.org/#a)."),
    Heading(2, "Table 1"),
    Table(["Model", "GS-1"], [["A | B <i>", "**1.0** [0.9, 1.1]"], ["C", ""]], ["made-a", None]),
    Bullets(["one"]),
    Figure("first", "a b.png", plot=True),
    Figure("second", "a b.png", plot=True),
    Table(["Model"], [["A | B <i>"]], names=["made-a"]),
]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in {"meta", "img"}:
            self.open.append(tag)
        self.ids += [value for key, value in attrs if key == "id" and value]
        self.targets += [values["href"] or ""] if "href" in values else []
        self.sources += [values["src"] or ""] if "src" in values else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_is_whole_and_needs_no_other_file(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "a b.png")
    text = page("Report", BLOCKS, tmp_path)
    tags = Tags()
    tags.feed(text)
    assert not tags.open and tags.ids == ["report-1", "table-1", "made-a"]
    assert set(tags.targets) == {"#table-1", "https://example.org/#a", "#made-a"}
    assert len(tags.sources) == 2 and all(source.startswith("data:image/") for source in tags.sources)
    assert "Report &lt;1&gt;" in text and "A | B &lt;i&gt;" in text and text.count('class="plots"') == 1
    assert not re.search(r"(src|href)=\"(?!data:|#|https://example)", text)


def test_markdown_is_what_it_says() -> None:
    text = markdown(BLOCKS)
    assert "## Table 1\n\n| Model | GS-1 |\n| --- | --- |\n| A \\| B <i> | **1.0** [0.9, 1.1] |\n| C |  |\n\n- one\n" in text
    assert "![first](a%20b.png)" in text
