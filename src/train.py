"""Trains colorizers.

One run: `python -m src.train model=shuffle drop=0.8`; a sweep: `python -m src.train -m model=shuffle,deform drop=0,0.8`.

A finished run is a folder `<runs>/<name>` with `model.safetensors` and `model.json`; until then it holds `last.ckpt`, from which
the same command continues.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from src.config import CONF, plain
from src.entry import reported
from src.files import UserError, config_hash, write_atomically

# These say where, how fast and how visibly a run is made, not what it is. Data and weights count by their hashes.
NOT_IDENTITY = (
    "runs", "overwrite", "ckpt_path", "keep_epochs", "workers", "tracking_uri", "sampler.", "trainer.", "data.",
    "scale.variants.", "scale.evaluation.", "scale.grid", "scale.validation", "scale.log_every", "scale.checkpoint_every",
    "scale.compile", "scale.gradient_checkpointing", "backbone.directory", "backbone.parts.", "backbone.data", "backbone.vae.",
    "backbone.clip.", "backbone.t2i.", "backbone.colorizers.", "backbone.variants.",
)  # fmt: skip
SWEEP_KEYS = ("drop", "noisy", "dual", "epochs", "seed")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
@reported
def main(config: DictConfig) -> None:
    reason = impossible(plain(config))
    if reason is None:
        train(config)
    elif _in_sweep():
        from src.tracking import log_skipped

        print(f"skipped: {reason}")
        log_skipped(config, name_of(config), reason)
    else:
        print(f"error: {reason}", file=sys.stderr)
        sys.exit(2)


def impossible(values: Mapping[str, Any]) -> str | None:
    """Why a combination of otherwise good values makes no model, in a sentence; None where it does. UserError for a bad value."""
    if not 0 <= values["drop"] <= 1:
        raise UserError(f"drop is {values['drop']}; it is a probability, 0 to 1.")
    if values["dual"] < 0:
        raise UserError(f"dual is {values['dual']}; it is lambda of Eq. 4, at least 0, and 0 turns dual training off.")
    if values["noisy"] and values["model"]["kind"] == "cls":
        return (
            "noisy training (Eq. 3) noises local tokens, and CLS models have none: choose model=shuffle or deform, or noisy=false."
        )
    return None


def name_of(config: DictConfig) -> str:
    """The run's name: its sweep keys, and whatever else differs from what the chosen groups say."""
    from src.config import compose
    from src.model.naming import run_name

    groups = [f"{group}={config[group].name}" for group in ("scale", "data", "backbone", "model")]
    usual = _what(compose(groups))
    changed = {key: value for key, value in _what(config).items() if key not in SWEEP_KEYS and usual.get(key) != value}
    return run_name(plain(config), changed)


def _what(config: DictConfig) -> dict[str, Any]:
    """What makes the run what it is: the configuration by dotted keys, without places and ways to run it."""

    def flat(value: Any, key: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return {k: v for part, inner in value.items() for k, v in flat(inner, f"{key}.{part}" if key else part).items()}
        return {key: value}

    return {key: value for key, value in flat(plain(config), "").items() if not key.startswith(NOT_IDENTITY)}


def _in_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def train(config: DictConfig) -> Path:
    """Trains one run to its end, continuing where it stopped, and returns its folder."""
    from src.backbone.parts import fingerprint, load_card

    name, data = name_of(config), _data_hashes(config)
    folder = Path(config.runs) / name
    identity = config_hash(_what(config) | {"weights": fingerprint(config.backbone), "data": data})
    if _state(folder, identity, config.overwrite) == "finished":
        lost = [epoch for epoch in config.keep_epochs if not (folder / f"epoch-{epoch}").exists()]
        if lost:
            raise UserError(
                f"{folder} is finished and did not keep the weights of epoch {lost[0]}; overwrite=true trains it again."
            )
        print(f"{name}: trained already, see {folder}")
        return folder
    if config.trainer.devices == 1 or _rank() is not None:
        fit(config, name, folder, identity, data)
    else:
        _launch(config, name)
    if not _rank():
        print(f"{name}: {load_card(folder / 'model')['seconds']:.0f} s, see {folder}")
    return folder


def _rank() -> int | None:
    """This process's number among those that torchrun or SLURM started together; None where it is on its own."""
    number = os.environ.get("RANK", os.environ.get("SLURM_PROCID"))
    return None if number is None else int(number)


def _launch(config: DictConfig, name: str) -> None:
    """This job again, in one process a device. Lightning's own launcher would start the whole sweep anew in each of them."""
    from hydra.core.hydra_config import HydraConfig

    if config.trainer.nodes > 1:
        raise UserError(
            "trainer.nodes is more than 1: start the command on every node with torchrun or srun, see docs/training.md."
        )
    count = _cuda_count() if config.trainer.devices == "auto" else int(config.trainer.devices)
    overrides = list(HydraConfig.get().overrides.task)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={count}",
        "-m",
        "src.train",
        *overrides,
    ]
    if subprocess.run(command, check=False).returncode:
        raise UserError(f"{name} ended early in its {count} processes, see above; the same command continues it.")


def _cuda_count() -> int:
    import torch

    return max(1, torch.cuda.device_count())


def _data_hashes(config: DictConfig) -> dict[str, str]:
    from src.data.columns import read_index

    root = Path(config.data.root) / "train"
    return {column: read_index(root / column)["config"] for column in columns_of(config)}


def columns_of(config: DictConfig) -> list[str]:
    """The columns that a run reads: cached latents and tokens, or the images that they are made from; and the sketch."""
    if config.trainer.features == "cached":
        return ["latent", config.model.tokens, "sketch"]
    if config.trainer.features == "live":
        return ["color", "sketch", *(["reference"] if config.model.tokens == "tokens_deform" else [])]
    raise UserError(f"trainer.features is {config.trainer.features!r}; it is `cached` or `live`.")


def _state(folder: Path, identity: str, overwrite: bool) -> str:
    """`finished`, `started` or `new`. UserError rather than a lost run where the folder belongs to another configuration."""
    marker = folder / "identity"
    if _rank():  # the first process decides, the others wait for it
        deadline = time.monotonic() + 60
        while not (marker.exists() and marker.read_text() == identity) and time.monotonic() < deadline:
            time.sleep(0.1)
    if marker.exists() and marker.read_text() != identity:
        if not overwrite:
            raise UserError(
                f"{folder} holds a run with other settings. Move it away, choose another runs=, or pass overwrite=true."
            )
        shutil.rmtree(folder)
    if not marker.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(marker, lambda f: f.write(identity.encode()))
        return "new"
    return "finished" if (folder / "model.safetensors").exists() else "started"


def fit(config: DictConfig, name: str, folder: Path, identity: str, data: Mapping[str, str]) -> None:
    """One Lightning fit; writes the weights with their card, then removes the resume checkpoint."""
    import lightning
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar

    from src.backbone.parts import load_backbone, save_weights
    from src.callbacks import Grids, KeepEpochs, log_grid
    from src.data.loader import EpochLoader, Table
    from src.model.checkpoint import LeaveOnSignal, WholeCheckpoints
    from src.model.colorizer import pretrained
    from src.model.ema import PowerEMA, reconstruct
    from src.model.training import Training
    from src.model.watch import Watch, forward_flops
    from src.tracking import run_logger

    scale, live = config.scale, config.trainer.features == "live"
    backbone = load_backbone(config.backbone)
    lightning.seed_everything(config.seed, verbose=False)
    torch.set_float32_matmul_precision("high")
    table = Table(Path(config.data.root) / "train", columns_of(config))
    validation = Table(Path(config.data.root) / "val", ["color", "sketch"] if live else ["latent", "tokens", "sketch"])
    val_loader = torch.utils.data.DataLoader(torch.utils.data.Subset(validation, range(scale.validation)), scale.validation)
    network = plain(config.backbone.unet)
    colorizer = pretrained(config.backbone, config.model.kind, scale.loss.prediction)
    if scale.gradient_checkpointing:
        unet: Any = colorizer.unet
        unet.enable_gradient_checkpointing()
    if scale.compile:
        colorizer.compile()
    scheme = {"shuffled": config.model.shuffled, "noisy": config.noisy, "drop_rate": config.drop, "dual": config.dual}
    module = Training(colorizer, scheme, plain(scale.loss), plain(scale.optimizer), config.seed, backbone if live else None)
    logger: Any = run_logger(config, name, folder, data) if not _rank() else False
    card: dict[str, Any] = {
        "name": name,
        "kind": config.model.kind,
        "backbone": backbone.fingerprint,
        "network": network,
        "scheme": scheme,
        "loss": plain(scale.loss),
        "identity": identity,
        "mlflow_run": logger.run_id if logger else None,
        "config": plain(config),
    }
    last, every = folder / "last.ckpt", scale.checkpoint_every
    saving: dict[str, Any] = {"every_n_train_steps": every} if every else {"every_n_epochs": 1, "save_on_train_epoch_end": True}
    callbacks: list[Any] = [
        *([PowerEMA(tuple(scale.ema.widths), scale.ema.every, folder / "ema")] if scale.ema.widths else []),
        Watch(scale.log_every, scale.batch, forward_flops(network, config.model.kind, backbone.token_count)),
        Grids(config, backbone),
        KeepEpochs(config.keep_epochs, folder, card),
        LeaveOnSignal(last),
        ModelCheckpoint(folder, filename="last", enable_version_counter=False, **saving),
        TQDMProgressBar(refresh_rate=max(1, scale.samples_per_epoch // scale.batch // 4)),
    ]
    trainer = lightning.Trainer(
        max_epochs=config.epochs,
        accumulate_grad_batches=scale.accumulate,
        gradient_clip_val=scale.clip,
        logger=logger,
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        log_every_n_steps=scale.log_every,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        **_machine(config),
    )
    rank, world = _rank() or 0, trainer.world_size
    loader = EpochLoader(table, scale.batch, scale.samples_per_epoch, config.seed, workers=config.workers, rank=rank, world=world)
    resumed = _resume(config, last)
    if resumed:  # Lightning restores a loader that was in the middle of an epoch, and no other
        loader.load_state_dict({"given": torch.load(resumed, weights_only=True, mmap=True)["batches"]})
    trainer.fit(module, loader, val_loader, ckpt_path=resumed, weights_only=True)
    if not last.exists() or torch.load(last, weights_only=True, mmap=True)["global_step"] != trainer.global_step:
        trainer.save_checkpoint(last)
    if not logger:
        return
    # The last checkpoint holds the final weights, whatever the strategy, also when a run was killed just after its fit.
    final = torch.load(last, weights_only=True, mmap=True, map_location="cpu")
    weights = {key.removeprefix("colorizer."): value for key, value in final["state_dict"].items()}
    colorizer.cpu().load_state_dict(reconstruct(folder / "ema", scale.ema.widths[0]) if scale.ema.widths else weights)
    module.cpu()
    with torch.inference_mode():
        validated = module.validation_losses(next(iter(val_loader)), 0)
    card |= {
        "steps": final["global_step"],
        "samples": final["global_step"] * scale.batch * scale.accumulate * world,
        "skipped": module.skipped,
        "seconds": final["seconds"],
        "val_loss": float(validated["val/loss"]),
        "val_loss_without_reference": float(validated["val/loss_without_reference"]),
    }
    log_grid(config, colorizer.eval(), backbone, logger.run_id, "samples.png")
    save_weights(folder / "model", colorizer.state_dict(), card)
    last.unlink(missing_ok=True)
    (folder / "mlflow_run").unlink(missing_ok=True)  # the card has it
    logger.finalize("success")


def _machine(config: DictConfig) -> dict[str, Any]:
    """What Lightning's Trainer needs to know about devices."""
    import torch

    options, cuda = config.trainer, torch.cuda.is_available()
    devices = max(1, torch.cuda.device_count()) if options.devices == "auto" else int(options.devices)
    precision: Any = options.precision
    if precision == "auto":
        precision = "32-true" if not cuda else "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    strategy: Any = "ddp" if options.strategy == "auto" and devices * options.nodes > 1 else options.strategy
    if strategy == "fsdp":
        from diffusers.models.resnet import ResnetBlock2D
        from diffusers.models.transformers import Transformer2DModel
        from lightning.pytorch.strategies import FSDPStrategy

        strategy = FSDPStrategy(auto_wrap_policy={ResnetBlock2D, Transformer2DModel}, state_dict_type="full")
    return {
        "accelerator": "gpu" if cuda else "cpu",
        "devices": devices,
        "num_nodes": options.nodes,
        "strategy": strategy,
        "precision": precision,
    }


def _resume(config: DictConfig, last: Path) -> Path | None:
    """The checkpoint to continue from. UserError for one that is not there."""
    if config.ckpt_path is None:
        last.unlink(missing_ok=True)
        return None
    if config.ckpt_path == "last":
        return last if last.exists() else None
    if not Path(config.ckpt_path).is_file():
        raise UserError(f"There is no {config.ckpt_path}. ckpt_path is `last`, null or the path of a checkpoint.")
    return Path(config.ckpt_path)


if __name__ == "__main__":
    main()
