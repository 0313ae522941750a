"""One Lightning fit of a colorizer: loaders, network, callbacks, devices; then the weights with their card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from omegaconf import DictConfig

from src.backbone.parts import Backbone, load_backbone, native_precision, save_weights
from src.callbacks import Grids, KeepEpochs, log_grid
from src.config import plain
from src.data.buckets import bucket_sizes
from src.data.loader import EpochLoader, Table
from src.data.storage import folder as place
from src.files import UserError
from src.held_out import Pairs
from src.model.checkpoint import Checkpoints, WholeCheckpoints
from src.model.colorizer import Colorizer, pretrained
from src.model.ema import PowerEMA, reconstruct
from src.model.training import Training
from src.model.watch import Watch, forward_flops
from src.tracking import run_logger


def columns_of(config: DictConfig) -> list[str]:
    """The columns that a run reads: cached latents and tokens, or the images that they are made from; and the sketch."""
    if config.trainer.features == "cached":
        return ["latent", config.model.tokens, "sketch"]
    if config.trainer.features == "live":
        return ["color", "sketch", *(["reference"] if config.model.tokens == "tokens_deform" else [])]
    raise UserError(f"trainer.features is {config.trainer.features!r}; it is `cached` or `live`.")


def processes(config: DictConfig) -> int:
    """How many processes a run has together: one a device of every node."""
    return _devices(config) * int(config.trainer.nodes)


def _devices(config: DictConfig) -> int:
    return max(1, torch.cuda.device_count()) if config.trainer.devices == "auto" else int(config.trainer.devices)


def fit(config: DictConfig, name: str, folder: Path, identity: str, data: Mapping[str, str], rank: int) -> None:
    """Trains in this process, number `rank` of the run's; the first one writes the weights with their card at the end, and
    removes the checkpoint to resume from.
    """
    scale, live = config.scale, config.trainer.features == "live"
    world = processes(config)
    backbone = load_backbone(config.backbone)
    lightning.seed_everything(config.seed, verbose=False)
    torch.set_float32_matmul_precision("high")
    table = Table(place(config.data.root) / "train", columns_of(config), _buckets(config))
    loader = EpochLoader(
        table, scale.batch, scale.samples_per_epoch, config.seed,
        workers=config.workers, rank=rank, world=world, order=scale.order,
    )  # fmt: skip
    held_out = _validation(config, live)
    pairs = Pairs(place(config.data.root) / "val", scale.grid, config.seed, backbone, _square(config))
    network = plain(config.backbone.unet)
    scheme = {"shuffled": config.model.shuffled, "noisy": config.noisy, "drop_rate": config.drop, "dual": config.dual}
    last, resumed = folder / "last.ckpt", resume(config, folder / "last.ckpt")
    if resumed:  # Lightning restores a loader that was in the middle of an epoch, and no other
        loader.load_state_dict({"given": torch.load(resumed, weights_only=True, mmap=True)["batches"]})

    colorizer = pretrained(config.backbone, config.model.kind, scale.loss.prediction)
    if scale.gradient_checkpointing:
        unet: Any = colorizer.unet
        unet.enable_gradient_checkpointing()
    if scale.compile:
        colorizer.compile()
    module = _module(config, colorizer, scheme, backbone if live else None)
    logger: Any = run_logger(config, name, folder, data) if rank == 0 else False
    card: dict[str, Any] = {
        "name": name,
        "kind": config.model.kind,
        "backbone": backbone.fingerprint,
        "network": network,
        "scheme": scheme,
        "loss": plain(scale.loss),
        "averaged": None,
        "identity": identity,
        "mlflow_run": logger.run_id if logger else None,
        "config": plain(config),
    }
    passes = 2 if config.dual else 1
    callbacks: list[Any] = [
        *([PowerEMA(tuple(scale.ema.widths), scale.ema.every, folder / "ema")] if scale.ema.widths else []),
        Watch(scale.log_every, scale.batch, passes * forward_flops(network, config.model.kind, backbone.token_count)),
        Grids(0 if config.trainer.strategy == "fsdp" else scale.grid_every, config, backbone, pairs),
        KeepEpochs(config.keep_epochs, folder, card),
        Checkpoints(last, scale.checkpoint_every),
        TQDMProgressBar(refresh_rate=max(1, min(scale.samples_per_epoch // scale.batch // 4, scale.log_every * scale.accumulate))),
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
        use_distributed_sampler=False,  # every process validates on the same rows, so the loss does not depend on their number
        default_root_dir=folder,
        num_nodes=config.trainer.nodes,
        **machine(config),
    )
    trainer.fit(module, loader, held_out, ckpt_path=resumed, weights_only=True)
    if rank == 0:
        _finish(config, folder, card, backbone, held_out, pairs, trainer.strategy.root_device, live)
        logger.finalize("success")


def _module(config: DictConfig, colorizer: Colorizer, scheme: dict[str, Any], backbone: Backbone | None) -> Training:
    return Training(colorizer, scheme, plain(config.scale.loss), plain(config.scale.optimizer), config.seed, backbone)


def _validation(config: DictConfig, live: bool) -> Any:
    """Batches of the first `scale.validation` held-out rows."""
    columns = ["color", "sketch"] if live else ["latent", "tokens", "sketch"]
    table = Table(place(config.data.root) / "val", columns, _buckets(config))
    if len(table) < config.scale.validation:
        raise UserError(
            f"{config.data.root}/val has {len(table)} rows; lower scale.validation, which is {config.scale.validation}."
        )
    rows = np.arange(config.scale.validation)
    parts = [rows[table.bucket_of[rows] == bucket].tolist() for bucket in range(max(1, len(table.buckets)))]
    size = 2 * config.scale.batch
    batches = [part[first : first + size] for part in parts for first in range(0, len(part), size)]
    return torch.utils.data.DataLoader(table, batch_sampler=batches)


def _square(config: DictConfig) -> int | None:
    return config.backbone.size if config.scale.buckets else None


def _buckets(config: DictConfig) -> list[tuple[int, int]]:
    return bucket_sizes(config.backbone.size**2) if config.scale.buckets else []


def _finish(
    config: DictConfig, folder: Path, card: dict[str, Any], backbone: Backbone, held_out: Any, pairs: Pairs, device: Any, live: bool
) -> None:
    """Model, card and grid from the last checkpoint: it holds the final weights, whatever the strategy, also when the run was
    killed just after its fit.
    """
    scale, last = config.scale, folder / "last.ckpt"
    final = torch.load(last, weights_only=True, mmap=True, map_location="cpu")
    weights = {key.removeprefix("colorizer."): value for key, value in final["state_dict"].items()}
    if scale.ema.widths:
        weights, card["averaged"] = reconstruct(folder / "ema", scale.ema.widths[0]), scale.ema.widths[0]
    colorizer = Colorizer(card["network"], card["kind"], prediction=scale.loss.prediction)
    colorizer.load_state_dict(weights)
    if live:
        backbone.to(device, native_precision(device))
    module = _module(config, colorizer.eval(), card["scheme"], backbone if live else None).to(device)
    sums, count = {"val_loss": 0.0, "val_loss_without_reference": 0.0}, 0
    with torch.inference_mode():
        for batch in held_out:
            moved = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
            losses = module.validation_losses(moved, count)
            sums = {key: total + float(losses[key].sum()) for key, total in sums.items()}
            count += len(batch["sketch"])
    card |= {
        "steps": final["global_step"],
        "samples": final["batches"] * scale.batch * processes(config),
        "skipped": final["skipped"],
        "seconds": final["seconds"],
        **{key: total / count for key, total in sums.items()},
    }
    log_grid(config, colorizer, backbone, pairs, card["mlflow_run"], "samples.png")
    save_weights(folder / "model", colorizer.state_dict(), card)
    last.unlink(missing_ok=True)
    (folder / "mlflow_run").unlink(missing_ok=True)  # the card has it


def machine(config: DictConfig) -> dict[str, Any]:
    """What Lightning's Trainer needs to know about devices."""
    options, cuda = config.trainer, torch.cuda.is_available()
    precision: Any = options.precision
    if precision == "auto":
        native = native_precision(torch.device("cuda" if cuda else "cpu"))
        precision = {torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed", torch.float32: "32-true"}[native]
    strategy: Any = options.strategy
    if strategy == "auto" and processes(config) > 1:
        strategy = "ddp"
    if strategy == "fsdp":
        strategy = _fsdp(precision)
    return {"accelerator": "gpu" if cuda else "cpu", "devices": _devices(config), "strategy": strategy, "precision": precision}


def _fsdp(precision: str) -> Any:
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers import Transformer2DModel
    from lightning.pytorch.strategies import FSDPStrategy
    from torch.distributed.fsdp import MixedPrecision

    half = torch.bfloat16 if precision.startswith("bf16") else torch.float16 if precision.startswith("16") else torch.float32
    return FSDPStrategy(
        auto_wrap_policy={ResnetBlock2D, Transformer2DModel},
        state_dict_type="full",
        mixed_precision=MixedPrecision(half, half, torch.float32, cast_root_forward_inputs=False),
    )


def resume(config: DictConfig, last: Path) -> Path | None:
    """The checkpoint to continue from. UserError for one that is not there."""
    if config.ckpt_path is None:
        last.unlink(missing_ok=True)
        return None
    if config.ckpt_path == "last":
        return last if last.exists() else None
    if not Path(config.ckpt_path).is_file():
        raise UserError(f"There is no {config.ckpt_path}. ckpt_path is `last`, null or the path of a checkpoint.")
    return Path(config.ckpt_path)
