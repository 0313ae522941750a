"""Dual classifier-free guidance (paper, 5.1; Ho and Salimans 2022)."""

from torch import Tensor


def combine(cond: Tensor, uncond_reference: Tensor | None, uncond_sketch: Tensor | None, gs: float, sgs: float) -> Tensor:
    """The guided prediction.

    uncond_reference: prediction with zero reference, sketch kept; uncond_sketch: reference kept, empty sketch; None where the
    scale is 1. One scale active: u + s (cond - u). Both: the mean of both. None: cond. ValueError: an active scale with None.
    """
    guided = []
    for name, scale, uncond in (("gs", gs, uncond_reference), ("sgs", sgs, uncond_sketch)):
        if scale == 1:
            continue
        if uncond is None:
            raise ValueError(f"{name} is {scale}, which needs a prediction without that condition, but it is None.")
        guided.append(uncond + scale * (cond - uncond))
    return sum(guided[1:], guided[0]) / len(guided) if guided else cond
