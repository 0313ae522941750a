"""Curves as SVG, small enough to stand in a page."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One model's values against x, with the interval of each."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def plot(lines: Sequence[Line], x_title: str, y_title: str, ticks: bool = True) -> str:
    """The lines with their intervals as shades; the same bytes for the same lines. ticks: at every x that a line has."""
    import io

    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "curves", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}):
        figure = Figure(figsize=(5, 4.2), layout="constrained")
        axes = figure.subplots()
        colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
        for i, line in enumerate(lines):
            colour, style = colours[i % 10], ("-", "--", ":")[i // 10 % 3]
            axes.plot(line.x, line.y, style, color=colour, marker=".", label=line.name)
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.1, linewidth=0)
        axes.set(xlabel=x_title, ylabel=y_title)
        if ticks:
            axes.set_xticks(sorted({x for line in lines for x in line.x}))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
