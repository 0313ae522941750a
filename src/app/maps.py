"""Where an edit of the list acts: its map over the reference, its zones, and thresholds for the place that somebody clicked on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.app.studio import Studio, settings
from src.files import UserError

SHOWN = 384  # pixels of the longer side of a map


@dataclass(frozen=True)
class Map:
    """matches: m of Eq. 9, float32 [rows, columns]. picture and zones: over the reference, uint8 [h, w, 3].

    unknown: words that CLIP does not know, a text for each that has some.
    """

    matches: NDArray[np.float32]
    picture: NDArray[np.uint8]
    zones: NDArray[np.uint8]
    ratio: float
    unknown: list[str]


def defaults() -> dict[str, Any]:
    """thresholds and ratio (Eq. 10) of the backbone, else the paper's."""
    from src.manipulation.edits import RATIO, THRESHOLDS

    return {"thresholds": list(THRESHOLDS), "ratio": RATIO} | dict(settings()["backbone"].get("edit", {}))


def map_of(studio: Studio, name: str, reference: np.ndarray, edits: Sequence[Mapping[str, Any]]) -> Map:
    """The map of the last edit, of the tokens after those before it, for a reference uint8 [H, W, 3]. No diffusion is run.

    UserError: an edit that cannot be, or one that has no place to show.
    """
    from src.manipulation import correlation_map, edit_local
    from src.manipulation.heatmaps import correlation_picture, zone_picture
    from src.picture import edited, resized

    given = [{"target_scale": 8, **edit, "target": edit.get("target") or edit.get("control")} for edit in edits]
    if not given or not (given[-1].get("control") or "").strip():
        raise UserError("Say where: which words name the place that shall change?")
    model, unknown = edited(studio.model(name), given, defaults())
    *before, last = model.edits
    if isinstance(last.control, str):
        raise UserError("“everything” is the whole picture: there is no map to show.")
    tokens = studio.tokens(name, reference)
    m = correlation_map(edit_local(tokens[:, 1:], tokens[:, 0], before), last.control)[0]
    rows = round(len(m) ** 0.5)
    scale = SHOWN / max(reference.shape[:2])
    shown = resized(reference, *(max(1, round(side * scale)) for side in reference.shape[:2]))
    return Map(
        m.cpu().numpy().reshape(rows, -1),
        correlation_picture(shown, m),
        zone_picture(shown, m, last.thresholds),
        last.ratio,
        [sentence.partition(": ")[2] for sentence in unknown if sentence.startswith(f"edit {len(given)}:")],
    )


def region(matches: np.ndarray, row: int, column: int, tolerance: float = 0.2) -> NDArray[np.bool_]:
    """The places around (row, column), joined by their edges, whose match differs from its by at most `tolerance`."""
    from scipy.ndimage import label

    labels, _ = label(np.abs(matches - matches[row, column]) <= tolerance)
    return labels == labels[row, column]


def proposed(matches: np.ndarray, row: int, column: int, ratio: float) -> list[float]:
    """Thresholds of Eq. 10 with which the region around (row, column) changes by d.

    With ratio 0 places of high m change, so the region lies above the last threshold. Else those of low m do, by -d r, and it lies
    below the first.
    """
    values = matches[region(matches, row, column)]
    if ratio == 0:
        wanted = float(values.min()) - np.array([0.3, 0.2, 0.1, 0.0])
    else:
        wanted = float(values.max()) + np.array([0.0, 0.05, 0.15, 0.3])
    return [round(float(value), 2) for value in np.clip(wanted, 0, 1)]
