"""Colours one sketch: `python -m src.sample sketch=a.png reference=b.png output=c.png [checkpoint=... gs=2 seed=0]`."""

import sys
from pathlib import Path

import hydra
import numpy as np
from omegaconf import DictConfig, OmegaConf

from src.config import CONF
from src.entry import quoted, reported
from src.files import UserError

PATHS = ("checkpoint", "sketch", "reference", "output")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="sample")
@reported
def main(config: DictConfig) -> None:
    missing = [key for key in PATHS if OmegaConf.is_missing(config, key)]
    if missing:
        raise UserError(f"Say {' and '.join(f'{key}=<path>' for key in missing)}.")
    sample_one(config)


def sample_one(config: DictConfig) -> None:
    """Writes one PNG at the sketch's own aspect ratio, its recipe in the metadata."""
    import torch

    from src.backbone.parts import load_backbone, sketch_to_input, to_input
    from src.model.colorizer import load_colorizer
    from src.sampling.sampler import sample

    backbone = load_backbone(config.backbone)
    colorizer, card = load_colorizer(Path(config.checkpoint) / "model", backbone.fingerprint)
    sketch, reference = open_image(Path(config.sketch), "L"), open_image(Path(config.reference), "RGB")
    noise_level = config.noise_level if config.noise_level != "auto" else 0.5 if card["scheme"]["noisy"] else 0.0
    factor = backbone.size // backbone.latent_size
    height, width = working_size(sketch.shape[0], sketch.shape[1], backbone.size, 4 * factor)
    lines = torch.from_numpy(resized(sketch, height, width))[None]
    colours = to_input(torch.from_numpy(resized(reference, backbone.size, backbone.size))[None])
    with torch.inference_mode():
        latents = sample(
            colorizer,
            sketch_to_input(lines),
            backbone.tokens(colours),
            [config.seed],
            latent_channels=backbone.latent_channels,
            factor=factor,
            **config.sampler,
            gs=config.gs,
            sgs=config.sgs,
            noise_level=noise_level,
        )
        image = backbone.decode(latents)[0].numpy()
    save(Path(config.output), image, OmegaConf.to_yaml(config, resolve=True), card["sha256"])
    print(f"{config.output}: {width} x {height}, {card['name']}")


def open_image(path: Path, mode: str) -> np.ndarray:
    """uint8 pixels of a file that the user named. UserError where it is missing or no image."""
    from src.data.images import ImageError, from_bytes

    try:
        return from_bytes(path.read_bytes(), mode)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    except ImageError as error:
        raise UserError(f"{path}: {error}.") from None


def working_size(height: int, width: int, size: int, multiple: int) -> tuple[int, int]:
    """Sides near `height : width` whose shorter one is `size`, both multiples of `multiple` (what the network halves down)."""
    scale = size / min(height, width)
    return tuple(max(multiple, round(side * scale / multiple) * multiple) for side in (height, width))  # type: ignore[return-value]


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [height, width(, 3)], area-averaged so that thin lines stay."""
    from PIL import Image

    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def save(path: Path, image: np.ndarray, recipe: str, weights: str) -> None:
    """A PNG with the whole configuration and the hash of the weights as text chunks."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from src.files import write_atomically

    info = PngInfo()
    info.add_itxt("colorize.recipe", recipe)
    info.add_text("colorize.weights", weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda f: Image.fromarray(image).save(f, "PNG", pnginfo=info))


if __name__ == "__main__":
    sys.argv[1:] = quoted(sys.argv[1:], PATHS)
    main()
