"""Plots of the text manipulation: dscale of an attribute (Figure 8) and the weights of Eq. 10 (Figure 9)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from src.figures import Picture
from src.figures.drawings import Drawing, data_hashes, drawings, reference_tokens
from src.files import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
SHOWS = 0.2  # of a token's area: from then on it is said to show a region
INSIDE, OUTSIDE = "#c8312b", "#8a8f98"


def dscale_plot(values: Mapping[str, Any]) -> Picture:
    """Figure 8: what painting one region of a drawing (B) in another colour (A) does to the projections of its tokens on the
    words of the new attribute, dscale_i = v_i^A . e - v_i^B . e (paper, 4.2), as a heatmap and as a histogram.

    `figure.examples`: drawings by `key`, with the `region` that is painted, its new colour `paint` (#rrggbb) and the `text`.
    """
    from pathlib import Path

    from matplotlib.colors import CenteredNorm
    from matplotlib.figure import Figure

    from src.backbone.parts import load_backbone

    figure, root = values["figure"], Path(values["data"]["root"])
    backbone = load_backbone(values["backbone"])
    found = drawings(root, [example["key"] for example in figure["examples"]])
    sheet = Figure((13, 3.1 * len(figure["examples"])), DPI, layout="constrained")
    axes = sheet.subplots(len(figure["examples"]), 4, width_ratios=[1, 1, 1.2, 1.7], squeeze=False)
    for (before, after, heat, histogram), example in zip(axes, figure["examples"], strict=True):
        b = found[example["key"]]
        a = painted(b, example["region"], example["paint"])
        change, cls = dscale(backbone, a, b.color, example["text"])
        inside = covered(b.regions == example["region"], change.shape)
        for axis, image, words in ((before, b.color, "B: as it was"), (after, a, f"A: {example['text']}")):
            axis.imshow(image, interpolation="nearest")
            axis.set_title(words)
        shown = heat.imshow(change, cmap="RdBu_r", norm=CenteredNorm())
        heat.set_title("dscale of the local tokens")
        sheet.colorbar(shown, ax=heat, shrink=0.85)
        for axis in (before, after, heat):
            axis.set_xticks([])
            axis.set_yticks([])
        edges = np.histogram_bin_edges(change, 24)
        parts = {"stacked": True, "color": [INSIDE, OUTSIDE], "label": ["tokens of the region", "elsewhere"]}
        histogram.hist([change[inside], change[~inside]], edges, **parts)
        histogram.axvline(0, color="black", linewidth=0.8)
        histogram.set_title(f"CLS token: corr {cls[1]:z.1f} to {cls[0]:z.1f}")
        histogram.set_xlabel("dscale")
        histogram.set_ylabel("local tokens")
        histogram.legend(frameon=False)
    return Picture(_pixels(sheet), {"backbone": backbone.fingerprint, "data": data_hashes(root)})


def painted(drawing: Drawing, region: int, colour: str) -> np.ndarray:
    """The drawing, uint8 [H, W, 3], with one of its regions in a colour #rrggbb, lines as they were. UserError: no such region."""
    from src.data.palette import to_rgb

    if drawing.regions is None:
        raise UserError(f"{drawing.key} has no regions, which figure 8 needs: use data=openmoji.")
    if not 1 <= region <= len(drawing.parts):
        raise UserError(f"{drawing.key} has no region {region}: it has {len(drawing.parts)}, {', '.join(drawing.parts)}.")
    image = drawing.color.copy()
    image[drawing.regions == region] = to_rgb(colour)
    return image


def dscale(backbone: Any, a: np.ndarray, b: np.ndarray, text: str) -> tuple[np.ndarray, tuple[float, float]]:
    """dscale^AB of the local tokens of images uint8 [H, W, 3] for a text -> [rows, columns] of CLIP's grid; and the projections
    of both CLS tokens, A's first."""
    from src.manipulation.algorithms import correlation

    e = backbone.text([text])[0]
    of_a, of_b = (correlation(reference_tokens(backbone, image)[0], e).cpu().numpy() for image in (a, b))
    return (of_a - of_b)[1:].reshape(backbone.clip.visual.grid_size), (float(of_a[0]), float(of_b[0]))


def covered(mask: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Which cells of a grid of tokens a mask, bool [H, W], covers by at least `SHOWS` -> bool [rows, columns]."""
    rows, columns = grid
    if mask.shape[0] % rows or mask.shape[1] % columns:
        raise ValueError(f"A mask of {list(mask.shape)} cannot be divided into {rows} x {columns} tokens.")
    return mask.reshape(rows, mask.shape[0] // rows, columns, -1).mean((1, 3)) >= SHOWS


def weights_plot(values: Mapping[str, Any]) -> Picture:
    """Figure 9: omega / d of Eq. 10 over m, as `src.manipulation` has it, for each of `figure.curves`: a `title` and, where they
    are not the paper's, `thresholds` and `ratio`. The five intervals have the colours of the zones of Figures 18 and 19."""
    import torch
    from matplotlib.figure import Figure

    from src.manipulation.algorithms import omega
    from src.manipulation.edits import RATIO, THRESHOLDS
    from src.manipulation.heatmaps import zone_colours

    curves = [{"thresholds": THRESHOLDS, "ratio": RATIO, **curve} for curve in values["figure"]["curves"]]
    heights = sorted({0, 0.5, 1, *(-curve["ratio"] for curve in curves)})
    sheet = Figure((6.2 * len(curves), 4.2), DPI, layout="constrained")
    for axis, curve in zip(sheet.subplots(1, len(curves), squeeze=False, sharey=True)[0], curves, strict=True):
        thresholds, ratio = curve["thresholds"], curve["ratio"]
        for low, high, colour in zip([0, *thresholds], [*thresholds, 1], zone_colours() / 255, strict=True):
            axis.axvspan(low, high, color=colour, alpha=0.25, linewidth=0)
        m = torch.linspace(0, 1, 2001, dtype=torch.float64)
        axis.plot(m, omega(m, 1.0, thresholds, ratio), color="black", linewidth=2)
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set_xticks([0, *thresholds, 1], ["0", *(f"$ts_{i}$\n{ts:g}" for i, ts in enumerate(thresholds)), "1"], fontsize=8)
        axis.set_yticks(heights, ["0" if height == 0 else "d" if height == 1 else f"{height:g} d" for height in heights])
        axis.set_xlim(0, 1)
        axis.set_xlabel("correlation $m_i$ with the control text")
        axis.set_title(curve["title"])
        axis.set_ylabel(r"weight $\omega_i$")
    return Picture(_pixels(sheet), {})


def _pixels(sheet: "Figure") -> np.ndarray:
    """A matplotlib figure as uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(sheet)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
