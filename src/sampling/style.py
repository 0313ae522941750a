"""What attention injection and AdaIN need of a reference (supplement, 1; Zhang 2023, ControlNet-reference)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

FINAL = "final"  # the final latent, beside the U-Net's blocks


@dataclass(frozen=True)
class Style:
    """A reference chain: at each step the noised latent of the reference runs through the same network, with its own sketch.

    latent: of the reference, [B, C, h, w], at the size of the drawing's.
    sketch: [B, 3, H, W], extracted from the reference, -1 = no line.
    injection: self-attentions also attend to the chain's states.
    adain: where hidden states take the chain's mean and standard deviation: `down.<i>`, `middle`, `up.<i>`, and `final`, the
        final latent.
    fidelity: style fidelity, 0 to 1: how much the pass without reference keeps to itself; with 1 guidance strengthens both.
    begin: share of the steps, from the noisiest on, before they begin.
    """

    latent: Tensor
    sketch: Tensor
    injection: bool = True
    adain: Sequence[str] = ()
    fidelity: float = 0.5
    begin: float = 0.0

    @property
    def in_network(self) -> bool:
        """Whether anything but the final latent takes part."""
        return self.injection or any(name != FINAL for name in self.adain)

    def check(self, levels: int) -> None:
        """ValueError for a value that a U-Net of so many levels cannot use."""
        blocks = [*(f"down.{i}" for i in range(levels)), "middle", *(f"up.{i}" for i in range(levels)), FINAL]
        unknown = [name for name in self.adain if name not in blocks]
        if unknown:
            raise ValueError(f"style.adain has {', '.join(unknown)}; the blocks are {', '.join(blocks)}.")
        for name, value in (("fidelity", self.fidelity), ("begin", self.begin)):
            if not 0 <= value <= 1:
                raise ValueError(f"style.{name} is {value}; it must be 0 to 1.")
