"""A page as a list of blocks, written as Markdown for repositories and as one HTML file that needs no server and no other file."""

import base64
import html
import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LINES = "\n"
META = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: light-dark(#0b57d0, #8ab4f8); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; margin: 2em 0 .6em; } h1 { margin-top: .5em; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; } a { color: var(--link); }
.wide { overflow-x: auto; max-width: 100%; border: 1px solid var(--line); border-radius: .4rem; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .35rem .6rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { background: var(--soft); } tbody tr:last-child > * { border-bottom: 0; }
tbody tr:hover, tr:target { background: var(--soft); } td a { color: inherit; text-decoration: none; } td a:hover { text-decoration: underline; }
tbody > tr > :first-child { position: sticky; left: 0; background: Canvas; font-weight: 500; min-width: 7rem; max-width: 11rem; white-space: normal; }
figure { margin: 1rem 0; overflow-x: auto; } figcaption { font-size: .9rem; margin-bottom: .3rem; }
img { max-width: 100%; height: auto; background: white; } .plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
.plots figure { margin: 0; } .plots img { width: 100%; }
code { overflow-wrap: anywhere; font-size: .9em; }
"""  # noqa: E501


@dataclass(frozen=True)
class Heading:
    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; `**bold**`, `` `code` `` and `[text](address)` mean what they do in Markdown."""

    text: str


@dataclass(frozen=True)
class Bullets:
    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """anchors: the place in the page that each row's numbers lead to, in HTML; names: the places that rows are themselves."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    anchors: Sequence[str | None] = ()
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Figure:
    """path: of the picture, relative to the page. plot: one of several small ones that stand beside one another."""

    title: str
    path: str
    plot: bool = False


Block = Heading | Text | Bullets | Table | Figure


def anchor(text: str) -> str:
    """A place's name in an address."""
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-")


def markdown(blocks: Sequence[Block]) -> str:
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Text):
        return block.text
    if isinstance(block, Bullets):
        return "\n".join(f"- {item}" for item in block.items)
    if isinstance(block, Figure):
        return f"![{block.title}]({block.path.replace(' ', '%20')})"
    rows = [block.head, ["---"] * len(block.head), *block.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def page(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """The whole HTML page, its pictures (files below `folder`) inside."""
    chapters = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    links = "".join(f'<a href="#{anchor(text)}">{html.escape(text)}</a>' for text in chapters)
    parts: list[str] = []
    for i, block in enumerate(blocks):
        plot = isinstance(block, Figure) and block.plot
        before, after = blocks[i - 1] if i else None, blocks[i + 1] if i + 1 < len(blocks) else None
        if plot and not (isinstance(before, Figure) and before.plot):
            parts.append('<div class="plots">')
        parts.append(_html(block, folder))
        if plot and not (isinstance(after, Figure) and after.plot):
            parts.append("</div>")
        if isinstance(block, Heading) and block.level == 1:
            parts.append(f"<nav>{links}</nav>")
    head = f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html>\n<html lang=en>\n<head>{META}{head}</head>\n<body>\n{LINES.join(parts)}\n</body>\n</html>\n"


def _html(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f'<h{block.level} id="{anchor(block.text)}">{html.escape(block.text)}</h{block.level}>'
    if isinstance(block, Text):
        return f"<p>{_inline(block.text)}</p>"
    if isinstance(block, Bullets):
        return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in block.items) + "</ul>"
    if isinstance(block, Figure):
        title, source = html.escape(block.title), _inside(folder / block.path)
        return f'<figure><figcaption>{title}</figcaption><img alt="{title}" src="{source}"></figure>'
    head = "".join(f"<th>{_inline(cell)}</th>" for cell in block.head)
    anchors = block.anchors or [None] * len(block.rows)
    names = block.names or [""] * len(block.rows)
    rows = (_row(*row) for row in zip(block.rows, anchors, names, strict=True))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _row(cells: Sequence[str], target: str | None, name: str) -> str:
    def cell(text: str) -> str:
        return f'<td><a href="#{target}">{_inline(text)}</a></td>' if target and text else f"<td>{_inline(text)}</td>"

    return (f'<tr id="{name}">' if name else "<tr>") + "".join(map(cell, cells)) + "</tr>"


def _inline(text: str) -> str:
    text = html.escape(text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    text = re.sub(r"`(.+?)`", r"<code>\1</code>", text)
    return re.sub(r"\[([^\]]+)\]\((https?://[^)\s]+|#[^)\s]+)\)", r'<a href="\2">\1</a>', text)


def _inside(path: Path) -> str:
    """The file as a data address; a PNG becomes WebP where that is smaller: the page is for looking, the PNG is beside it."""
    kind, data = mimetypes.guess_type(path.name)[0], path.read_bytes()
    if path.suffix == ".png":
        import io

        from PIL import Image

        buffer = io.BytesIO()
        Image.open(path).convert("RGB").save(buffer, "WEBP", quality=90, method=4)
        if buffer.tell() < len(data):
            kind, data = "image/webp", buffer.getvalue()
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
