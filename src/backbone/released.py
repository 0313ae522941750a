"""The authors' released colorizers, files `mult*` of `tellurion/ColorizeDiffusion`, as weights of this project's colorizer.

What this rests on, read from the public repository tellurion-kanata/colorizeDiffusion (state of March 2026; its licence is CC
BY-NC-SA, and so is that of the weights):
- `configs/inference/mult.yaml`: Stable Diffusion 2.1's U-Net with convolutional projections, and a sketch encoder outside it.
- `refnet/modules/unet.py`: the U-Net under `model.diffusion_model.*` has LDM's names and no layer more; sketch features are added
  after input blocks 0, 3, 6, 9 and 11, which are diffusers' `conv_in` and four down blocks.
- `refnet/modules/encoder.py`: the sketch encoder under `control_encoder.*`; of the two convolutions of a block the first halves.
- `util.py`: files are published without CLIP (`cond_stage_model.*`) and without averages (`model_ema.*`), U-Net averaged or not;
  the VAE (`first_stage_model.*`) and the schedule's buffers (names without a dot) stay in. `src.backbone.pretrained.vae` reads
  that VAE from the same file.
- `backend/appfunc.py`: files predict the noise where their name contains `eps`, otherwise v. The weights do not tell.
Only the model with local tokens was released, so the colorizer's kind is `attention`. No released file was at hand when this was
written.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from src.backbone.pretrained import UNET_PREFIX, from_ldm_unet
from src.weights import check_fit, find, read_weights

_LEFT_OUT = ("first_stage_model.", "cond_stage_model.", "model_ema.")
_SKETCH_ENCODER = {
    r"^control_encoder\.model\.": "sketch_encoder.stem.",
    r"^control_encoder\.zero_layer\.0\.": "sketch_encoder.first.",
    r"^control_encoder\.output_blocks\.": "sketch_encoder.blocks.",
    r"^control_encoder\.zero_blocks\.(\d+)\.0\.": r"sketch_encoder.outputs.\1.",
}


def released_weights(source: str | Path, colorizer: Any) -> dict[str, Tensor]:
    """Weights, in the file's precision, for a `src.model.colorizer.Colorizer` of kind `attention` and the size of `sd21`.

    source: a file, or a hub name as `tellurion/ColorizeDiffusion:FILE`. Only names and shapes of `colorizer` are looked
    at, so it may be on the meta device. WeightsError names the first keys that differ; later versions of the authors' model
    (`switch*` with more parts, `v2*`) have other keys.
    """
    path = find(source)
    weights = read_weights(path)
    unet = from_ldm_unet(path, weights, colorizer.unet.config["layers_per_block"])
    rest = {k: v for k, v in weights.items() if "." in k and not k.startswith((UNET_PREFIX, *_LEFT_OUT))}
    named = {f"unet.{k}": v for k, v in unet.items()} | {_sketch_encoder_name(k): v for k, v in rest.items()}
    check_fit(path, named, colorizer)
    return named


def released_prediction(source: str | Path) -> str:
    """What a released file predicts, `epsilon` or `v`, by its name, as the authors' app has it: keep that name."""
    return "epsilon" if "eps" in Path(str(source).rpartition(":")[2]).name else "v"


def _sketch_encoder_name(key: str) -> str:
    for pattern, name in _SKETCH_ENCODER.items():
        key = re.sub(pattern, name, key)
    return key
