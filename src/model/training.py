"""The LightningModules: one training step of the paper (Eq. 1 to 4), whatever the scheme, and what every training shares."""

import math
import time
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from src.backbone.parts import Backbone, native_precision, sketch_to_input, to_input
from src.files import UserError
from src.model.colorizer import Colorizer
from src.model.diffusion import T, alphas_cumprod, diffusion_loss, dual_loss, min_snr_weight, offset
from src.model.reference import condition

# So many updates in a row without a finite gradient are no accident.
MOST_SKIPPED = 10


class Fitting(lightning.LightningModule):
    """What every training here has in common: seeded batches, updates that are left out where their gradient is not finite, AdamW.

    optimizer: peak, weight_decay, warmup (steps), decay_to_zero (linearly over the run; the paper's rate is constant). frozen: what
    the losses need beside the trained network; it is moved to the device, and neither trained nor saved.

    Batch i of a run draws its randomness from (seed, i, rank) alone, so that a run that was stopped and resumed equals one that
    was not. An update whose gradient is not finite is left out; `skipped` counts them.
    """

    def __init__(self, optimizer: dict[str, Any], seed: int, frozen: Any = None) -> None:
        super().__init__()
        self.optimizer_options, self.seed = optimizer, seed
        self.frozen = [frozen]  # in a list, so that torch does not take it for a part of the module
        self.schedule = alphas_cumprod()  # no buffer: strategies with half-precision buffers would round it
        self.earlier, self.began = 0.0, time.perf_counter()  # seconds of training before and since this process took over
        self.batches, self.skipped, self.skipped_in_a_row = 0, 0, 0
        self.gradient_norm = math.nan
        self.seen: list[tuple[list[str], Tensor]] = []  # keys and losses of the update under way

    @property
    def trained(self) -> torch.nn.Module:
        """The network that is trained."""
        raise NotImplementedError

    def losses(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The training losses [B] and timesteps [B] of a batch."""
        raise NotImplementedError

    def training_step(self, batch: dict[str, Any], batch_index: int) -> dict[str, Tensor]:
        state = int(np.random.SeedSequence((self.seed, self.batches, self.global_rank)).generate_state(1, np.uint64)[0])
        self.batches += 1
        losses, t = self.losses(batch, torch.Generator(self.device).manual_seed(state % 2**63))
        loss = losses.mean()
        self.seen.append((batch["key"], losses.detach()))
        self.log("train/loss", loss, prog_bar=True)
        return {"loss": loss, "losses": losses.detach(), "t": t}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clips by the norm, keeps it, and takes the gradients away where it is not finite: AdamW then leaves out the update."""
        strategy: Any = self.trainer.strategy
        whole = strategy.model if hasattr(strategy.model, "clip_grad_norm_") else None  # FSDP's shards know their common norm
        limit = gradient_clip_val or math.inf
        norm = whole.clip_grad_norm_(limit) if whole else torch.nn.utils.clip_grad_norm_(self.parameters(), limit)
        self.gradient_norm = float(norm)
        seen, self.seen = self.seen, []
        if math.isfinite(self.gradient_norm):
            self.skipped_in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)
        self.skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= MOST_SKIPPED:
            keys = [key for batch, _ in seen for key in batch]
            finite = torch.cat([losses for _, losses in seen]).isfinite().tolist()
            guilty = [key for key, fine in zip(keys, finite, strict=True) if not fine]
            which = f"the loss of the rows {', '.join(guilty)} was not" if guilty else f"of the rows {', '.join(keys)}"
            raise UserError(
                f"The gradient was not finite {MOST_SKIPPED} updates in a row, last at step {self.global_step}: {which}. "
                "Look at these, lower scale.optimizer.peak, or set trainer.precision=32-true."
            )

    def on_fit_start(self) -> None:
        self.schedule = self.schedule.to(self.device)

    def on_train_start(self) -> None:
        self.began = time.perf_counter()
        (frozen,) = self.frozen
        if frozen is not None:
            frozen.to(self.device, native_precision(self.device))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["seconds"] = self.earlier + time.perf_counter() - self.began
        checkpoint["batches"], checkpoint["skipped"] = self.batches, self.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.earlier, self.batches, self.skipped = checkpoint["seconds"], checkpoint["batches"], checkpoint["skipped"]

    def configure_optimizers(self) -> Any:
        options = self.optimizer_options
        optimizer = torch.optim.AdamW(
            self.trained.parameters(),
            options["peak"],
            betas=(0.9, 0.999),
            weight_decay=options["weight_decay"],
            fused=self.device.type == "cuda" and self.trainer.precision != "16-mixed",  # fused, it would clip scaled gradients
        )

        steps = self.trainer.estimated_stepping_batches if options["decay_to_zero"] else 0

        def factor(step: int) -> float:
            warm = min(1.0, (step + 1) / max(1, options["warmup"]))
            return warm * (max(0.0, 1 - step / steps) if options["decay_to_zero"] else 1.0)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Training(Fitting):
    """Trains a colorizer on cached latents and tokens, or on images through `backbone`, and sketches.

    `scheme`: shuffled, noisy, drop_rate, and dual (lambda of Eq. 4; 0 = off). `loss`: prediction, and the options that the paper's
    rows leave at 0: min_snr (gamma), offset_noise (strength), mirror (see `src.model.reference.mirrored`).
    """

    def __init__(
        self,
        colorizer: Colorizer,
        scheme: dict[str, Any],
        loss: dict[str, Any],
        optimizer: dict[str, Any],
        seed: int,
        backbone: Backbone | None = None,
    ) -> None:
        super().__init__(optimizer, seed, backbone)
        self.colorizer, self.scheme, self.loss_options = colorizer, scheme, loss
        self.validated = 0

    @property
    def trained(self) -> Colorizer:
        return self.colorizer

    def losses(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The training losses [B] and timesteps [B] of a batch.

        Cached: `mean`, `std` [B, C, h, w] and `tokens` [B, 1 + n, D]. Live: `color` and perhaps `reference`, uint8 [B, H, W, 3].
        Both: `sketch` uint8 [B, H, W].
        """
        batch = self.featured(batch)

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, device=like.device)

        def noise_like(z: Tensor) -> Tensor:
            noise = normal(z)
            return offset(noise, self.loss_options["offset_noise"], generator) if self.loss_options["offset_noise"] else noise

        z = batch["mean"] + batch["std"] * normal(batch["std"])
        t = torch.randint(T, (len(z),), generator=generator, device=self.device)
        noise = noise_like(z)
        tokens = condition(
            self.colorizer.used(batch["tokens"]),
            t,
            self.schedule,
            shuffled=self.scheme["shuffled"],
            noisy=self.scheme["noisy"],
            drop_rate=self.scheme["drop_rate"],
            mirror=self.loss_options["mirror"],
            generator=generator,
        )
        sketch = sketch_to_input(batch["sketch"])
        prediction = self.colorizer.prediction

        def predict(z_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
            return self.colorizer(z_t, t, tokens, sketch=sketch)

        if self.scheme["dual"]:
            weight = self.scheme["dual"]
            losses = dual_loss(predict, z, t, tokens, noise, noise_like(z), weight, self.schedule, prediction)
        else:
            losses = diffusion_loss(predict, z, t, tokens, noise, self.schedule, prediction)
        if self.loss_options["min_snr"]:
            losses = losses * min_snr_weight(t, self.loss_options["min_snr"], self.schedule, prediction)
        return losses, t

    @torch.no_grad()
    def featured(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with latents and tokens: from the cache, or from its images by the frozen VAE and CLIP."""
        (backbone,) = self.frozen
        if "mean" in batch or backbone is None:
            return batch
        mean, std = backbone.encode(to_input(batch["color"]))
        tokens = backbone.tokens(to_input(batch.get("reference", batch["color"])))
        return batch | {"mean": mean, "std": std, "tokens": tokens}

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        count = len(batch["sketch"])
        for key, losses in self.validation_losses(batch, self.validated).items():
            self.log(key.replace("val_", "val/"), losses.mean(), prog_bar=key == "val_loss", batch_size=count, sync_dist=True)
        self.validated += count

    def on_validation_epoch_start(self) -> None:
        self.validated = 0

    def validation_losses(self, batch: dict[str, Any], first: int) -> dict[str, Tensor]:
        """The plain losses (Eq. 2), [B], of the held-out rows from `first` on: `val_loss` and `val_loss_without_reference`.

        A row's timestep and noise depend on its place alone, so that models, epochs, batches and devices compare.
        """
        batch = self.featured(batch)
        z, rows = batch["mean"], range(first, first + len(batch["mean"]))
        t = torch.tensor(
            [int(T * (row * 0.6180339887 % 1)) for row in rows], device=z.device
        )  # the golden ratio spreads them evenly
        noise = torch.stack([torch.randn(z.shape[1:], generator=torch.Generator().manual_seed(row)) for row in rows]).to(z)
        tokens = self.colorizer.used(batch["tokens"])
        features = self.colorizer.features(sketch_to_input(batch["sketch"]))

        def losses(tokens: Tensor) -> Tensor:
            return diffusion_loss(
                lambda z_t, t, tokens: self.colorizer(z_t, t, tokens, features),
                z, t, tokens, noise, self.schedule, self.colorizer.prediction,
            )  # fmt: skip

        return {"val_loss": losses(tokens), "val_loss_without_reference": losses(torch.zeros_like(tokens))}
