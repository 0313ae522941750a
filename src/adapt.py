"""Trains what the baselines are made of: `python -m src.adapt part=ip_adapter base=sd15 output=models/ip-adapter`."""

import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from src.config import CONF, plain
from src.entry import quoted, reported
from src.files import UserError, config_hash
from src.launch import launch, launched, rank

PATHS = ("output", "start", "ckpt_path", "data.root", "backbone.directory", "weights.directory")
# What a part is, beside the hashes of data and weights; all else says where and how fast it is trained.
IDENTITY = ("part", "epochs", "seed")
SCALE = ("samples_per_epoch", "batch", "accumulate", "optimizer", "loss", "ema", "clip", "order")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="adapt")
@reported
def main(config: DictConfig) -> None:
    if OmegaConf.is_missing(config, "output"):
        raise UserError("Say output=<the folder for the trained part>.")
    adapt(config)


def adapt(config: DictConfig) -> Path:
    """Trains one part to its end, continuing where it stopped, and returns its folder."""
    from src.baselines.adapters import CARD
    from src.baselines.training import columns_of
    from src.baselines.weights import load_base, named, new_base, sha256_of
    from src.fit import processes
    from src.runs import data_hashes, state_of

    values, folder = plain(config), Path(config.output)
    if config.base is None and config.part.kind != "unet":
        raise UserError(f"part={config.part.kind} is trained on a base: say base=<one of conf/weights/{config.weights.name}.yaml>.")
    base = new_base(config) if config.base is None else load_base(config, config.base)
    columns = list(dict.fromkeys("color" if column == "meta" else column for column in columns_of(base)))
    made_from = {
        "backbone": base.fingerprint,
        "base": None if config.base is None else sha256_of(named(config.weights, "bases", config.base).source),
        "start": None if config.start is None else sha256_of(config.start),
        "data": data_hashes(config, columns),
    }
    settings = {key: values[key] for key in IDENTITY} | {"scale": {key: values["scale"][key] for key in SCALE}}
    identity = config_hash([settings, made_from, processes(config)])
    if state_of(folder, identity, config.overwrite, finished=CARD) == "finished":
        print(f"{folder}: trained already")
    elif processes(config) > 1 and rank() is None:
        from hydra.core.hydra_config import HydraConfig

        launch("src.adapt", list(HydraConfig.get().overrides.task), processes(config), folder.name)
    else:
        _fit(config, base, folder, {**settings, "made_from": made_from})
    return folder


def _fit(config: DictConfig, base: Any, folder: Path, card: dict[str, Any]) -> None:
    import lightning
    import torch
    from lightning.pytorch.callbacks import TQDMProgressBar

    from src.baselines.adapters import ip_adapter_weights, load_folder, load_ip_adapter, save_folder, save_ip_adapter
    from src.baselines.training import CLASSES, PartTraining, columns_of, new_part
    from src.data.loader import EpochLoader, Table
    from src.data.storage import folder as place
    from src.fit import machine, processes, resume
    from src.model.checkpoint import Checkpoints, WholeCheckpoints
    from src.model.ema import PowerEMA, reconstruct

    kind, scale, last = config.part.kind, config.scale, folder / "last.ckpt"
    lightning.seed_everything(config.seed, verbose=False)
    start = None
    if config.start is not None:
        start = load_ip_adapter(config.start) if kind == "ip_adapter" else load_folder(CLASSES[kind], config.start)
    part = new_part(kind, base, start).to(memory_format=torch.channels_last)
    module = PartTraining(part, base, kind, {**config.part, "min_snr": scale.loss.min_snr}, plain(scale.optimizer), config.seed)
    table = Table(place(config.data.root) / "train", columns_of(base))
    loader = EpochLoader(
        table, scale.batch, scale.samples_per_epoch, config.seed,
        workers=config.workers, rank=rank() or 0, world=processes(config), order=scale.order,
    )  # fmt: skip
    resumed = resume(config, last)
    if resumed:
        loader.load_state_dict({"given": torch.load(resumed, weights_only=True, mmap=True)["batches"]})
    trainer = lightning.Trainer(
        max_epochs=config.epochs,
        accumulate_grad_batches=scale.accumulate,
        gradient_clip_val=scale.clip,
        logger=False,
        callbacks=[
            *([PowerEMA(tuple(scale.ema.widths), scale.ema.every, folder / "ema")] if scale.ema.widths else []),
            Checkpoints(last, scale.checkpoint_every),
            TQDMProgressBar(refresh_rate=max(1, len(loader) // 4)),
        ],
        plugins=[WholeCheckpoints()],
        num_sanity_val_steps=0,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        num_nodes=config.trainer.nodes,
        **machine(config),
    )
    trainer.fit(module, loader, ckpt_path=resumed, weights_only=True)
    if trainer.global_rank:
        return
    if scale.ema.widths:
        part.load_state_dict(reconstruct(folder / "ema", scale.ema.widths[0]))
    final = torch.load(last, weights_only=True, mmap=True, map_location="cpu")
    card |= {
        "kind": kind,
        "loss": float(trainer.callback_metrics["train/loss"]),
        "steps": final["global_step"],
        "samples": final["batches"] * scale.batch * processes(config),
        "seconds": final["seconds"],
    }
    if kind == "ip_adapter":
        save_ip_adapter(ip_adapter_weights(base.unet), folder, card)
    else:
        save_folder(part, folder, card)
    last.unlink(missing_ok=True)
    print(f"{folder}: {card['seconds']:.0f} s, {card['samples']} samples")


if __name__ == "__main__":
    if not launched():
        sys.argv[1:] = quoted(sys.argv[1:], PATHS)
    main()
