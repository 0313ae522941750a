"""What 8 bits do to CLIP tokens and to a colorizer's prediction: `python -m benchmarks.tokens`.

64 held-out drawings of the demo through the shipped Noisy colorizer: relative RMS error of the tokens, the change of its prediction
relative to the prediction, and relative to what leaving out the reference changes.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.backbone.parts import load_card, load_weights, sketch_to_input
from src.config import compose
from src.data.loader import Table
from src.data.tokens import decode_tokens, encode_tokens
from src.model.colorizer import Colorizer
from src.model.diffusion import alphas_cumprod


def relative(error: Tensor, of: Tensor) -> float:
    return float((error.square().mean() / of.square().mean()).sqrt())


@torch.inference_mode()
def main() -> None:
    config = compose()
    stem = Path(config.backbone.directory) / "noisy/model"
    card = load_card(stem)
    network = Colorizer(card["network"], card["kind"])
    load_weights(stem, network)
    table = Table(Path(config.data.root) / "val", ["latent", "tokens", "sketch"])
    batch = table.collate(np.random.default_rng(0).permutation(len(table))[:64].tolist())
    tokens, z = batch["tokens"], batch["mean"]
    coarse = torch.from_numpy(np.stack([decode_tokens(encode_tokens(t, 8)) for t in tokens.numpy()]))
    print(f"tokens of 8 bits: relative RMS error {relative(coarse - tokens, tokens):.2%}")
    features = network.features(sketch_to_input(batch["sketch"]))
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    for t in (100, 500, 900):
        alpha = alphas_cumprod()[t]
        noisy, times = alpha.sqrt() * z + (1 - alpha).sqrt() * noise, torch.full((len(z),), t)
        exact, rounded, without = (network(noisy, times, network.used(x), features) for x in (tokens, coarse, 0 * tokens))
        print(
            f"t = {t}: prediction changes by {relative(rounded - exact, exact):.3%}, "
            f"which is {relative(rounded - exact, without - exact):.2%} of what leaving out the reference changes"
        )


if __name__ == "__main__":
    main()
