"""What a sampler tells the denoiser for one call: the reference's keys and values, and the rows of a reference chain.

Everything comes with the call and nothing stays in the network, so threads may share one. Without a `Call` (training) the
attentions are diffusers' own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional as F

Kept = tuple[Tensor, Tensor] | Tensor  # keys and values [b, heads, n, d] of an attention, or the output [b, 1, C] of a CLSLinear


@dataclass(frozen=True)
class Call:
    """One forward over several passes of the same b drawings.

    Given rows, b a pass: the passes with reference, then `chain` rows of a reference chain (0 or b). The network itself adds the
    last pass: the first `absent` rows (0 or b) once more with zero tokens, from the first layer on that looks at the reference.

    reference: what each cross-attention keeps of the b references (`reference_states`).
    injection: self-attentions of the passes also attend to the chain's states (attention injection, supplement).
    adain: blocks (`down.0`, `middle`, `up.1`, ...) after whose layers the passes take the chain's mean and deviation.
    fidelity: style fidelity, 0 to 1: how much the pass without reference is left alone by both.
    """

    reference: Sequence[Kept]
    absent: int = 0
    chain: int = 0
    injection: bool = False
    adain: frozenset[str] = frozenset()
    fidelity: float = 0.5


def install(unet: nn.Module) -> None:
    """Gives every attention a processor that understands a `Call`; cross-attentions are numbered in the order of the modules."""
    attentions: list[Any] = [m for name, m in unet.named_modules() if name.endswith(".attn2")]
    for place, attention in enumerate(attentions):
        attention.set_processor(CrossAttention(place))
    for name, module in unet.named_modules():
        if name.endswith(".attn1"):
            attention = module
            attention.set_processor(SelfAttention())


def reference_states(unet: Any, tokens: Tensor, strength: float | Sequence[float] = 1.0) -> list[Kept]:
    """What each cross-attention keeps of reference tokens [b, n, D]; it depends on neither t nor z, so sampling makes it once.

    strength: of the reference, 1 as trained, 0 as with zero tokens; or one number a level of the U-Net, the finest first, and
    one for the middle. ValueError: another count of numbers.
    """
    levels = len(unet.down_blocks)
    strengths = [strength] * (levels + 1) if isinstance(strength, int | float) else list(strength)
    if len(strengths) != levels + 1:
        raise ValueError(f"strength has {len(strengths)} numbers; the U-Net has {levels} levels and the middle: {levels + 1}.")
    kept: list[Kept] = []
    for name, module in unet.named_modules():
        if not name.endswith(".attn2"):
            continue
        attention: Any = module
        scale = strengths[_level(name, levels)]
        if isinstance(attention, CLSLinear):
            kept.append(attention.linear(tokens * scale))
        else:
            kept.append((_heads(attention, attention.to_k(tokens)), _heads(attention, attention.to_v(tokens * scale))))
    return kept


def _level(name: str, levels: int) -> int:
    """The level of the U-Net that a module belongs to by its name; `levels` for the middle."""
    part, _, rest = name.partition(".")
    if part == "mid_block":
        return levels
    block = int(rest.partition(".")[0])
    return block if part == "down_blocks" else levels - 1 - block


def _heads(attention: Any, x: Tensor) -> Tensor:
    return x.unflatten(-1, (attention.heads, -1)).transpose(1, 2)  # [b, n, C] => [b, heads, n, d]


def _repeated(x: Tensor, rows: int) -> Tensor:
    return x if len(x) == rows else x.repeat(rows // len(x), *(1,) * (x.ndim - 1))


def _output(attention: Any, x: Tensor) -> Tensor:
    return attention.to_out[0](x.transpose(1, 2).flatten(2))  # [B, heads, L, d] => [B, L, C]


class Told(AttnProcessor2_0):
    """diffusers' attention, and within a `Call` what `during` makes of it."""

    def __call__(  # type: ignore[override]
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        call: Call | None = None,
    ) -> Tensor:
        output = self.during(call, attn, hidden_states) if call else None
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask) if output is None else output

    def during(self, call: Call, attn: Any, hidden_states: Tensor) -> Tensor | None:
        """The output [B, L, C] for hidden states [B, L, C]; None: as without a call."""
        raise NotImplementedError


class CrossAttention(Told):
    """Cross-attention with keys and values that are there already. Zero tokens have zero values: what is left is the bias."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place

    def during(self, call: Call, attn: Any, hidden_states: Tensor) -> Tensor:
        present = len(hidden_states) - call.absent
        key, value = (_repeated(x, present) for x in call.reference[self.place])
        query = _heads(attn, attn.to_q(hidden_states[:present]))
        output = _output(attn, F.scaled_dot_product_attention(query, key, value))
        return torch.cat([output, attn.to_out[0].bias.expand(call.absent, *output.shape[1:])]) if call.absent else output


class SelfAttention(Told):
    """Self-attention in which the passes also see the chain's states: Q of their own, K and V of both (supplement, Eq. 1)."""

    def during(self, call: Call, attn: Any, hidden_states: Tensor) -> Tensor | None:
        if not call.injection:
            return None
        query, key, value = (_heads(attn, to(hidden_states)) for to in (attn.to_q, attn.to_k, attn.to_v))
        own = F.scaled_dot_product_attention(query, key, value)
        chain = slice(len(own) - call.absent - call.chain, len(own) - call.absent)
        key, value = (torch.cat([x, _repeated(x[chain], len(x))], 2) for x in (key, value))
        return _output(attn, _mixed(own, F.scaled_dot_product_attention(query, key, value), call))


class CLSLinear(nn.Module):
    """Cross-attention to one token: softmax over one token is 1, so it is `to_out(to_v(cls))`, one linear layer (paper, 3.3)."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        value, output = attention.to_v, attention.to_out[0]
        self.place: int = attention.processor.place
        self.linear = nn.Linear(value.in_features, output.out_features)
        with torch.no_grad():
            self.linear.weight.copy_(output.weight @ value.weight)
            self.linear.bias.copy_(output.bias)

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, call: Call | None = None, **_: Any
    ) -> Tensor:
        if call is None:
            return self.linear(encoder_hidden_states).expand(-1, hidden_states.shape[1], -1)
        output = _repeated(call.reference[self.place], len(hidden_states) - call.absent)  # type: ignore[arg-type]
        bias = self.linear.bias.expand(call.absent, 1, -1)
        return torch.cat([output, bias]).expand(-1, hidden_states.shape[1], -1)


def normalised(h: Tensor, name: str, call: Call) -> Tensor:
    """Hidden states [B, C, h, w] after a layer of the block `name`, with AdaIN to the chain's where the call asks for it."""
    if name not in call.adain:
        return h
    end = len(h) - call.absent
    return _mixed(h, adain(h, _repeated(h[end - call.chain : end], len(h))), call)


def adain(x: Tensor, style: Tensor, epsilon: float = 1e-6) -> Tensor:
    """x [B, C, h, w] with each channel's mean and standard deviation taken from `style` (Huang and Belongie 2017)."""
    (var, mean), (style_var, style_mean) = (torch.var_mean(y, (2, 3), correction=0, keepdim=True) for y in (x, style))
    return (x - mean) * (style_var.clamp_min(epsilon) / var.clamp_min(epsilon)).sqrt() + style_mean


def _mixed(own: Tensor, styled: Tensor, call: Call) -> Tensor:
    """The passes with reference styled, the chain as it was, the pass without reference in between (style fidelity)."""
    end = len(own) - call.absent
    start = end - call.chain
    rest = torch.lerp(styled[end:], own[end:], call.fidelity)
    return torch.cat([styled[:start], own[start:end], rest])
