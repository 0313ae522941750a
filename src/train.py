"""Trains colorizers.

One run: `python -m src.train model=shuffle drop=0.8`; a sweep: `python -m src.train -m model=shuffle,deform drop=0,0.8`.

A finished run is a folder `<runs>/<name>` with `model.safetensors` and `model.json`; until then it holds `last.ckpt`, from which
the same command continues.
"""

import shutil
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from src.config import CONF, plain
from src.entry import reported
from src.files import UserError, config_hash

# These say where and how a run is made, not what it is.
NOT_IDENTITY = {"runs", "overwrite", "workers", "tracking_uri", "sampler"}


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
@reported
def main(config: DictConfig) -> None:
    train(config)


def train(config: DictConfig) -> Path:
    """Trains one run to its end, continuing where it stopped, and returns its folder."""
    from src.backbone.parts import fingerprint, load_card
    from src.model.naming import run_name

    values = plain(config)
    name = run_name(values)
    folder = Path(config.runs) / name
    identity = config_hash(
        {k: v for k, v in values.items() if k not in NOT_IDENTITY}
        | {"weights": fingerprint(Path(config.backbone.directory)), "data": _data_hashes(config)}
    )
    if _state(folder, identity, config.overwrite) == "finished":
        print(f"{name}: trained already, see {folder}")
        return folder
    fit(config, name, folder, identity)
    print(f"{name}: {load_card(folder / 'model')['seconds']:.0f} s, see {folder}")
    return folder


def _data_hashes(config: DictConfig) -> dict[str, str]:
    from src.data.columns import read_index

    root = Path(config.data.root) / "train"
    return {column: read_index(root / column)["config"] for column in ("latent", config.model.tokens, "sketch")}


def _state(folder: Path, identity: str, overwrite: bool) -> str:
    """`finished`, `started` or `new`. UserError rather than a lost run where the folder belongs to another configuration."""
    marker = folder / "identity"
    if marker.exists() and marker.read_text() != identity:
        if not overwrite:
            raise UserError(
                f"{folder} holds a run with other settings. Move it away, choose another runs=, or pass overwrite=true."
            )
        shutil.rmtree(folder)
    if not marker.exists():
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(identity)
        return "new"
    return "finished" if (folder / "model.safetensors").exists() else "started"


def fit(config: DictConfig, name: str, folder: Path, identity: str) -> None:
    """One Lightning fit; writes the weights with their card, then removes the resume checkpoint."""
    import lightning
    import torch
    from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar

    from src.backbone.parts import load_backbone, save_weights
    from src.data.loader import EpochLoader, Table
    from src.model.checkpoint import WholeCheckpoints
    from src.model.colorizer import pretrained
    from src.model.training import Training
    from src.tracking import run_logger

    scale, backbone = config.scale, load_backbone(Path(config.backbone.directory))
    lightning.seed_everything(config.seed, verbose=False)
    columns = ["latent", config.model.tokens, "sketch"]
    table = Table(Path(config.data.root) / "train", columns)
    loader = EpochLoader(table, scale.batch, scale.samples_per_epoch, config.seed, workers=config.workers)
    validation = Table(Path(config.data.root) / "val", ["latent", "tokens", "sketch"])
    network = plain(config.backbone.unet)
    colorizer = pretrained(network, config.model.kind, Path(config.backbone.directory))
    steps = len(loader) * config.epochs // scale.accumulate
    scheme = {
        "shuffled": config.model.shuffled,
        "noisy": config.noisy,
        "drop_rate": config.drop,
        "dual": config.dual,
        "min_snr": scale.min_snr,
    }
    module = Training(colorizer, scheme, dict(scale.optimizer), steps, config.seed)
    logger = run_logger(config, name, folder)
    callbacks: list[Any] = [
        ModelCheckpoint(folder, filename="last", enable_version_counter=False, save_top_k=1, every_n_train_steps=len(loader)),
        TQDMProgressBar(refresh_rate=max(1, len(loader) // 4)),
    ]
    if scale.ema:
        # Weights before and after the warm-up are far apart: an average of both is neither.
        callbacks.append(EMAWeightAveraging(decay=scale.ema, update_starting_at_step=scale.optimizer.warmup))
    trainer = lightning.Trainer(
        max_epochs=config.epochs,
        accumulate_grad_batches=scale.accumulate,
        gradient_clip_val=scale.clip,
        logger=logger,
        callbacks=callbacks,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        plugins=[WholeCheckpoints()],
        enable_model_summary=False,
        devices=1,
    )
    last = folder / "last.ckpt"
    val_loader = torch.utils.data.DataLoader(torch.utils.data.Subset(validation, range(scale.validation)), scale.validation)
    trainer.fit(module, loader, val_loader, ckpt_path=last if last.exists() else None, weights_only=True)
    if trainer.interrupted:
        raise UserError(f"{name} was interrupted; the same command continues it.")
    # The last checkpoint holds the final weights (the average, where there is one), also when a run was killed just after its fit.
    final = torch.load(last, weights_only=True)
    colorizer.load_state_dict({key.removeprefix("colorizer."): value for key, value in final["state_dict"].items()})
    (validated,) = lightning.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, devices=1).validate(
        module, val_loader, verbose=False
    )
    card = {
        "name": name,
        "kind": config.model.kind,
        "backbone": backbone.fingerprint,
        "network": network,
        "scheme": scheme,
        "identity": identity,
        "steps": final["global_step"],
        "samples": final["global_step"] * scale.batch * scale.accumulate,
        "seconds": final["seconds"],
        "val_loss": validated["val/loss"],
        "mlflow_run": logger.run_id,
        "config": plain(config),
    }
    _log_grid(config, colorizer.eval(), backbone, logger)
    save_weights(folder / "model", colorizer.state_dict(), card)
    last.unlink(missing_ok=True)
    (folder / "mlflow_run").unlink(missing_ok=True)  # the card has it
    logger.finalize("success")


def _log_grid(config: DictConfig, colorizer: Any, backbone: Any, logger: Any) -> None:
    """Held-out sketch, reference and result, one pair a row, as an MLflow image."""
    from src.evaluate import Pairs, colorize
    from src.grids import rows_image
    from src.tracking import log_image

    pairs = Pairs(Path(config.data.root) / "val", config.scale.grid, config.seed)
    results = colorize(colorizer, backbone, pairs, gs=2.0, sampler=config.sampler, batch=config.scale.evaluation.batch)
    log_image(logger.run_id, rows_image([pairs.sketches, pairs.references, results]), "samples.png", config.tracking_uri)


if __name__ == "__main__":
    main()
