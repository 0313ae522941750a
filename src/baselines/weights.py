"""Where the baselines' weights are: by name in a configuration of `conf/weights`, ours of the demo or public ones."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.baselines.adapters import FOLDER_FILES, IP_ADAPTER, load_folder
from src.baselines.base import BackboneBase, Base
from src.config import CONF, plain
from src.files import UserError, file_sha256
from src.weights import find, mirrored


def named(weights: DictConfig, group: str, name: str) -> Any:
    """An entry of `conf/weights`, its source in the mirror folder where that has it. UserError where there is none."""
    known = weights.get(group) or {}
    if name not in known:
        raise UserError(
            f"conf/weights/{weights.name}.yaml has no {name} among its {group}: there are {', '.join(known) or 'none'}."
        )
    entry, mirror = known[name], weights.get("mirror")
    if isinstance(entry, str):
        return mirrored(entry, mirror)
    return OmegaConf.create({**plain(entry), "source": mirrored(entry.source, mirror)})


def rows(weights: DictConfig) -> dict[str, str]:
    """The rows of `conf/baseline` that these weights have all parts of: names of their files to their own."""
    import yaml

    parts = {"bases": "base", "controls": "control", "ip_adapters": "image", "t2i_adapters": "t2i_adapter"}
    found = {}
    for path in sorted((CONF / "baseline").glob("*.yaml")):
        row = yaml.safe_load(path.read_text(encoding="utf-8"))  # composing it by Hydra would take much longer
        wanted = {group: row.get(key) for group, key in parts.items() if row.get(key)}
        if path.stem != "entry" and all(name in (weights.get(group) or {}) for group, name in wanted.items()):
            found[path.stem] = row["name"]
    return found


def load_base(config: DictConfig, name: str) -> Base:
    """A text-to-image base by its name, on the CPU, frozen, in eval mode."""
    entry = named(config.weights, "bases", name)
    if config.weights.kind == "backbone":
        from src.backbone.parts import load_backbone

        return BackboneBase(load_folder("UNet2DConditionModel", entry.source), load_backbone(config.backbone))
    from src.baselines.public import load_public_base

    return load_public_base(plain(config.weights), name)


def new_base(config: DictConfig) -> Base:
    """A base with a new U-Net on the configuration's backbone: what a training of a text-to-image model starts from."""
    from src.backbone.parts import load_backbone
    from src.model.unet import text_to_image_unet

    return BackboneBase(text_to_image_unet(plain(config.backbone.unet)), load_backbone(config.backbone))


def sha256_of(source: str | Path) -> str:
    """Of the weights that a source names: a folder in diffusers' format (of a whole pipeline the U-Net's), an IP-Adapter's folder,
    a file or a hub name.
    """
    return file_sha256(find(source, (*FOLDER_FILES, IP_ADAPTER), ("", "unet")))
