"""Reference-only (Zhang 2023): no weights of its own. The base denoises the noised reference beside the picture, whose
self-attentions look at it as well (attention), or whose hidden states take its mean and deviation (AdaIN).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from src.model.attention import adain


@dataclass(frozen=True)
class Chain:
    """One forward over `rows` rows of the picture and, after them, as many of the noised reference with the same prompts.

    Of the first ones, `unguided` have the negative prompt: they are mixed with themselves as they are without the reference, by
    the style fidelity, 0 to 1 (1: they are left alone).
    """

    rows: int
    unguided: int
    fidelity: float

    def mixed(self, own: Tensor, styled: Tensor) -> Tensor:
        """own [2 rows, ...]: as without a reference; styled [rows, ...]."""
        n = self.unguided
        return torch.cat([torch.lerp(styled[:n], own[:n], self.fidelity), styled[n:], own[self.rows :]])


class ReferenceAttention(AttnProcessor2_0):
    """diffusers' attention; with a `chain`, self-attentions of the picture's rows see the states of the reference's rows too."""

    def __call__(  # type: ignore[override]
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        chain: Chain | None = None,
    ) -> Tensor:
        own = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask)
        if chain is None or encoder_hidden_states is not None:
            return own
        picture, reference = hidden_states.split(chain.rows)
        both = torch.cat([picture, reference], 1)
        return chain.mixed(own, super().__call__(attn, picture, both, attention_mask))


@contextmanager
def adain_layers(unet: Any, chain: Chain, blocks: Sequence[str]) -> Iterator[None]:
    """Within it, every layer of the named blocks (`down.0`, ..., `middle`, `up.0`, ...) ends in AdaIN from the reference's rows."""

    def hook(module: Any, inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        picture, reference = hidden.split(chain.rows)
        hidden = chain.mixed(hidden, adain(picture, reference))
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    layers = layers_of(unet)
    handles = [layer.register_forward_hook(hook) for block in blocks for layer in layers[block]]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layers_of(unet: Any) -> dict[str, list[Any]]:
    """By block, the modules after which AdaIN acts: attentions where the block has them, else residual blocks."""
    layers = {"middle": [unet.mid_block]}
    for part in ("down", "up"):
        for i, block in enumerate(getattr(unet, f"{part}_blocks")):
            layers[f"{part}.{i}"] = list(getattr(block, "attentions", None) or block.resnets)
    return layers
