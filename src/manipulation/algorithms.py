"""The paper's two algorithms on tokens: global edits of the CLS token and local edits of the local tokens (paper, 4.1 and 4.2).

Tokens are CLIP's image tokens after its projection, unnormalised; embeddings are of unit length. So a dot product of the two is
the length of the token's projection on the text, which the paper calls their correlation. All functions are pure; they compute
in float32 at least and give the tokens' own dtype. Every drawing of a batch is edited as if it were alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from src.manipulation.edits import RATIO, THRESHOLDS, Edit


def edit_tokens(tokens: Tensor, edits: Sequence[Edit], kind: str) -> Tensor:
    """All image tokens [B, 1 + n, D] (row 0 is CLS) with the edits in the part that a colorizer of this kind looks at.

    kind: `cls` (Algorithm 1 on CLS) or `attention` (Algorithm 2 on the local tokens). ValueError: another kind, and as below.
    """
    if kind not in ("cls", "attention"):
        raise ValueError(f"The kind of a colorizer needs to be cls or attention, got {kind!r}.")
    cls, local = tokens[:, 0], tokens[:, 1:]
    if kind == "cls":
        return torch.cat([edit_global(cls, edits)[:, None], local], 1)
    return torch.cat([cls[:, None], edit_local(local, cls, edits)], 1)


def edit_global(cls: Tensor, edits: Sequence[Edit]) -> Tensor:
    """CLS tokens [B, D] after a sequence of edits (Algorithm 1; Eq. 5 to 7). Controls, thresholds and ratios are ignored.

    Each edit reads the token that the edits before it left. ValueError: shapes that do not fit.
    """
    _check(cls, edits)
    v = _precise(cls)
    for edit in edits:
        e, scale = edit.target.to(v), edit.target_scale
        if edit.anchor is None:
            step = scale if edit.enhance else (scale - correlation(v, e))[..., None]
            v = v + step * e  # Eq. 5
        elif edit.enhance:
            a = edit.anchor.to(v)
            v = v - correlation(v, a)[..., None] * a
            v = v + (scale - correlation(v, e))[..., None] * e  # Eq. 7
        else:
            v = v + scale * (e - edit.anchor.to(v))  # Eq. 6
    return v.to(cls.dtype)


def edit_local(tokens: Tensor, cls: Tensor, edits: Sequence[Edit]) -> Tensor:
    """Local tokens [B, n, D] after a sequence of edits (Algorithm 2; Eq. 9 to 13). cls [B, D]: the reference's CLS tokens.

    As Algorithm 2 has it: d comes from `cls`, which no edit changes; the map m, and v . a of an enhanced edit, come from the
    tokens that the edits before it left. The control "everything" means omega = d everywhere. Without an anchor, enhance is
    ignored. A constant correlation map, such as that of zero tokens, has m = 0 and so omega = -d r everywhere.
    ValueError: an edit without a control, or shapes that do not fit.
    """
    _check(cls, edits)
    if tokens.ndim != 3 or tokens.shape[::2] != cls.shape:
        raise ValueError(f"Local tokens need to be [B, n, D] with CLS tokens [B, D], got {list(tokens.shape)}, {list(cls.shape)}.")
    v = _precise(tokens)
    for number, edit in enumerate(edits, 1):
        if edit.control is None:
            raise ValueError(f'Edit {number} has no control, which a local edit needs: a text, or "everything".')
        e, d = edit.target.to(v), dscale(cls, edit).to(v)  # d => [B]
        if isinstance(edit.control, str):
            weight = d[:, None]
        else:
            weight = omega(correlation_map(v, edit.control), d, edit.thresholds, edit.ratio)  # => [B, n]
        if edit.anchor is None:
            v = v + weight[..., None] * e  # Eq. 13
        else:
            a = edit.anchor.to(v)
            if edit.enhance:  # beta = 1
                weight = weight + correlation(v, a)
            v = v + weight[..., None] * (e - a)  # Eq. 12
    return v.to(tokens.dtype)


def dscale(cls: Tensor, edit: Edit) -> Tensor:
    """d of a local edit for CLS tokens [B, D] -> [B]: Eq. 11 with an anchor, target_scale alone without (Algorithm 2)."""
    v = _precise(cls)
    if edit.anchor is not None:
        return edit.target_scale - correlation(v, edit.anchor if edit.enhance else edit.target)
    if edit.subtract_projection:
        return edit.target_scale - correlation(v, edit.target)
    return torch.full_like(v[:, 0], edit.target_scale)


def correlation(tokens: Tensor, text: Tensor) -> Tensor:
    """corr = v . e of tokens [..., D] and a unit embedding [D] -> [...] (paper, 4.2)."""
    # Not a matrix product: its sums are ordered by place and batch, so equal tokens would come out unequal in the last digit,
    # which the min-max normalisation of a constant map blows up.
    return (tokens * text.to(tokens)).sum(-1)


def correlation_map(tokens: Tensor, control: Tensor) -> Tensor:
    """m of Eq. 9 for local tokens [..., n, D] -> [..., n]: v . c, min-max normalised over the tokens of each image to [0, 1].

    In a sequence of edits, an edit's map is that of the tokens after the edits before it. A constant map is 0 everywhere.
    In OpenCLIP's ViT-H/14, places that show what the control names have low values (paper, 4.2); in this project's demo CLIP,
    whose local tokens were trained on the names of their regions, they have high ones.
    """
    corr = correlation(_precise(tokens), control)
    low, high = corr.amin(-1, keepdim=True), corr.amax(-1, keepdim=True)
    return (corr - low) / torch.where(high > low, high - low, 1)


def zones(m: Tensor, thresholds: Sequence[float] = THRESHOLDS) -> Tensor:
    """Which interval of Eq. 10 each m lies in, int64 of m's shape: 0 for m <= ts_0, 1 to ts_1, 2 to ts_2, 3 to ts_3, 4 above.

    A threshold belongs to the interval below it. With OpenCLIP's ViT-H/14, target attributes should lie in 0 and 1, those to keep
    in 3 and 4 (paper, 4.2).
    """
    return torch.bucketize(m.contiguous(), m.new_tensor(thresholds))


def omega(m: Tensor, d: Tensor | float, thresholds: Sequence[float] = THRESHOLDS, ratio: float = RATIO) -> Tensor:
    """Eq. 10, the position weights of local edits: m [..., n] in [0, 1] and d [...] -> [..., n].

    From -d r (m <= ts_0) in straight lines through 0 (at ts_1) and d / 2 (at ts_2) to d (from ts_3 on).
    """
    ts, zone = m.new_tensor(thresholds), zones(m, thresholds)
    # Each interval's line is base + rise (m - start) / width. The second one is written from its upper end, where it is 0: so
    # rounding makes no other m an unchanged one.
    base, rise = m.new_tensor([-ratio, 0, 0, 0.5, 1]), m.new_tensor([0, ratio, 0.5, 0.5, 0])
    start, one = ts[[0, 1, 1, 2, 3]], ts.new_ones(1)
    width = torch.cat([one, ts.diff(), one])  # 0 only for an interval that no m lies in
    d = torch.as_tensor(d, dtype=m.dtype, device=m.device)[..., None]
    return d * (base[zone] + rise[zone] * ((m - start[zone]) / width[zone]))


def _precise(tokens: Tensor) -> Tensor:
    return tokens.to(torch.promote_types(tokens.dtype, torch.float32))


def _check(cls: Tensor, edits: Sequence[Edit]) -> None:
    if cls.ndim != 2:
        raise ValueError(f"CLS tokens need to be [B, D], got {list(cls.shape)}.")
    for number, edit in enumerate(edits, 1):
        if len(edit.target) != cls.shape[1]:
            raise ValueError(f"Edit {number} has text embeddings of {len(edit.target)} numbers, the tokens have {cls.shape[1]}.")
