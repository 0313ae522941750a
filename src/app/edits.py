"""The list of edits: what can be done to it, and what the form shows of one."""

from typing import Any

import gradio as gr

from src.app.maps import defaults

MOST = 8  # edits
Edits = list[dict[str, Any]]


def first_edit() -> dict[str, Any]:
    return new_edit() | {"target": "green hair", "anchor": "red hair", "control": "red hair"}


def new_edit() -> dict[str, Any]:
    thresholds = defaults()["thresholds"]
    return {"on": True, "target": "", "anchor": "", "control": "", "target_scale": 12, "enhance": False, "thresholds": thresholds}


FIELDS = ("target", "anchor", "control", "target_scale", "enhance")


def values(edit: dict[str, Any]) -> list[Any]:
    return [*(edit[name] for name in FIELDS), *edit["thresholds"]]


def named(edits: Edits) -> list[tuple[str, int]]:
    """What the list shows of each edit, and its place."""
    return [(f"{i + 1}. {edit['target'] or '(nothing yet)'}{'' if edit['on'] else ' (off)'}", i) for i, edit in enumerate(edits)]


def listed(edits: Edits, chosen: int) -> list[Any]:
    chosen = max(0, min(chosen, len(edits) - 1))
    return [edits, gr.Radio(named(edits), value=chosen), *values(edits[chosen])]


def added(edits: Edits, chosen: int) -> list[Any]:
    if len(edits) == MOST:
        raise gr.Error(f"There are {MOST} edits already: delete one first.", print_exception=False)
    return listed([*edits, new_edit()], len(edits))


def _swapped(edits: Edits, chosen: int, other: int) -> list[Any]:
    if 0 <= other < len(edits):
        edits = [*edits]
        edits[chosen], edits[other] = edits[other], edits[chosen]
        chosen = other
    return listed(edits, chosen)


def moved_up(edits: Edits, chosen: int) -> list[Any]:
    return _swapped(edits, chosen, chosen - 1)


def moved_down(edits: Edits, chosen: int) -> list[Any]:
    return _swapped(edits, chosen, chosen + 1)


def switched(edits: Edits, chosen: int) -> list[Any]:
    return listed([{**edit, "on": edit["on"] != (i == chosen)} for i, edit in enumerate(edits)], chosen)


def deleted(edits: Edits, chosen: int) -> list[Any]:
    rest = [edit for i, edit in enumerate(edits) if i != chosen]
    return listed(rest or [new_edit()], chosen)


def filled(edits: Edits, chosen: int) -> list[Any]:
    return values(edits[chosen])


def ordered(thresholds: list[float], moved: int) -> list[float]:
    """Thresholds of which one was moved: it takes along the ones that it passes."""
    here = thresholds[moved]
    return [min(ts, here) if i < moved else max(ts, here) for i, ts in enumerate(thresholds)]


def spec_of(edit: dict[str, Any]) -> dict[str, Any]:
    """An edit of the list as `encode_edits` reads it."""
    return {key: value for key, value in edit.items() if key != "on" and value != ""}
