"""The charts of the paper's Figure 21 from what volunteers said: a radar chart of mean scores, a bar chart of all of them.

Intervals are 95 % ones over volunteers, each with all their answers (`src.metrics.intervals`): how far another group of the same
size might lie from this one, for these pictures.
"""

import io
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from src.app.study import NAMES, SCORES, Rating
from src.metrics.intervals import mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_drawing = threading.Lock()  # matplotlib's settings are the process's, and the app draws for several people

Interval = tuple[float, float, float]  # mean, low, high


def models(ratings: Sequence[Rating]) -> list[str]:
    return sorted({rating.item.model for rating in ratings})


def means(ratings: Sequence[Rating], question: str) -> dict[str, Interval]:
    """The mean score of each model that the question was asked about, with its interval (nan with one volunteer)."""
    return {model: mean_interval(*values) for model, values in _scores(ratings, question).items()}


def shares(ratings: Sequence[Rating], question: str) -> dict[str, list[Interval]]:
    """The share of each score, 1 to 5, among the answers about each model, with its interval."""
    return {
        model: [mean_interval(np.array(values) == score, groups) for score in SCORES]
        for model, (values, groups) in _scores(ratings, question).items()
    }


def _scores(ratings: Sequence[Rating], question: str) -> dict[str, tuple[list[int], list[int]]]:
    """Scores and who gave them, by model."""
    found: dict[str, tuple[list[int], list[int]]] = {}
    for model in models(ratings):
        answered = [r for r in ratings if r.item.model == model and question in r.scores]
        if answered:
            found[model] = [r.scores[question] for r in answered], [r.participant for r in answered]
    return found


def radar(ratings: Sequence[Rating]) -> str:
    """SVG: the four questions as axes from 1 to 5, a line for each model, the intervals as shades. The same bytes every time."""
    from matplotlib.figure import Figure

    by_question = {name: means(ratings, name) for name in NAMES}
    with _style() as colours:
        figure = Figure(figsize=(6, 4.6), layout="constrained")
        axes = figure.subplots(subplot_kw={"projection": "polar"})
        axes.set_theta_zero_location("N")  # type: ignore[attr-defined]
        axes.set_theta_direction(-1)  # type: ignore[attr-defined]
        angles = {name: 2 * math.pi * i / len(NAMES) for i, name in enumerate(NAMES)}
        for i, model in enumerate(models(ratings)):
            asked = [name for name in NAMES if model in by_question[name]]
            around = [*asked, asked[0]] if len(asked) == len(NAMES) else asked
            turned, (mean, low, high) = [angles[name] for name in around], np.array([by_question[name][model] for name in around]).T
            axes.plot(turned, mean, color=colours[i % 10], marker=".", label=model)
            axes.fill_between(turned, low, high, color=colours[i % 10], alpha=0.15, linewidth=0)
        axes.set_ylim(1, 5)
        axes.set_yticks(list(SCORES), [str(score) for score in SCORES], color="#555")
        axes.set_rlabel_position(45)  # type: ignore[attr-defined]
        axes.set_xticks(list(angles.values()), NAMES)
        for label, side in zip(axes.get_xticklabels(), ("center", "left", "center", "right"), strict=True):
            label.set_horizontalalignment(side)  # type: ignore[arg-type]
        axes.grid(alpha=0.3)
        axes.spines["polar"].set_alpha(0.3)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        return _svg(figure)


def bars(ratings: Sequence[Rating]) -> str:
    """SVG: for each question and model the share of each score among the answers, with its interval. The same bytes every time."""
    from matplotlib.figure import Figure

    names = models(ratings)
    with _style() as colours:
        figure = Figure(figsize=(7.2, 5), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
        width = 0.8 / len(names)
        for axes, question in zip(panels, NAMES, strict=True):
            for model, intervals in shares(ratings, question).items():
                i = names.index(model)
                x = np.array(SCORES) + (i - (len(names) - 1) / 2) * width
                share, low, high = 100 * np.array(intervals).T
                axes.bar(x, share, 0.9 * width, color=colours[i % 10], alpha=0.75, label=model)
                axes.vlines(x, low, high, color="#333", linewidth=1)
            axes.set_title(question, fontsize=9)
            axes.set_xticks(list(SCORES))
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3, axis="y")
            axes.spines[["top", "right"]].set_visible(False)
        for axes in panels[2:]:
            axes.set_xlabel("score, 1 = lowest")
        figure.supylabel("% of answers", fontsize=9)
        handles = {label: bar for axes in panels for bar, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
        return _svg(figure)


@contextmanager
def _style() -> Iterator[Sequence[str]]:
    """The looks of `src.curves`; gives the colours of the models."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {"svg.hashsalt": "rating", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}
    with _drawing, mpl.rc_context(settings):
        yield mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]


def _svg(figure: "Figure") -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def table(ratings: Sequence[Rating]) -> list[list[str]]:
    """Rows of model, number of answers about pictures, and each question's mean with its interval, in words for a table."""
    by_question: Mapping[str, Mapping[str, Interval]] = {name: means(ratings, name) for name in NAMES}
    return [
        [model, str(sum(r.item.model == model for r in ratings)), *(_cell(by_question[name].get(model)) for name in NAMES)]
        for model in models(ratings)
    ]


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return "not asked"
    mean, low, high = interval
    return f"{mean:.2f}" if math.isnan(low) else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


HEAD = ["Model", "pictures rated", *NAMES]
