"""The LightningModule: one training step of the paper (Eq. 1 to 4), whatever the scheme."""

import time
from typing import Any

import lightning
import torch
from torch import Tensor

from src.backbone.parts import sketch_to_input
from src.model.colorizer import Colorizer
from src.model.diffusion import T, alphas_cumprod, diffusion_loss, dual_loss, min_snr_weight
from src.model.reference import condition


class Training(lightning.LightningModule):
    """Trains a colorizer on cached latents, tokens and sketches.

    `scheme`: shuffled, noisy, drop_rate, dual (lambda of Eq. 4; 0 = off), and min_snr (gamma of Min-SNR weighting; 0 = off).
    `optimizer`: peak, weight_decay, warmup (steps), decay_to_zero (linearly over `steps`; the paper's rate is constant).
    Step i draws its randomness from (seed, i, rank) alone, so that a run that was stopped and resumed equals one that was not.
    """

    schedule: Tensor

    def __init__(self, colorizer: Colorizer, scheme: dict[str, Any], optimizer: dict[str, Any], steps: int, seed: int) -> None:
        super().__init__()
        self.colorizer, self.scheme, self.optimizer_options = colorizer, scheme, optimizer
        self.steps, self.seed = steps, seed
        self.register_buffer("schedule", alphas_cumprod(), persistent=False)
        self.earlier, self.began = 0.0, time.perf_counter()  # seconds of training before and since this process took over

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + self.global_step * 64 + self.global_rank)
        loss = self.loss(batch, generator)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        """The mean training loss of a batch: `mean`, `std` [B, C, h, w], `tokens` [B, 1 + n, D], `sketch` uint8 [B, H, W]."""

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, device=like.device)

        z = batch["mean"] + batch["std"] * normal(batch["std"])
        t = torch.randint(T, (len(z),), generator=generator, device=self.device)
        noise = normal(z)
        tokens = condition(
            self.colorizer.used(batch["tokens"]),
            t,
            self.schedule,
            shuffled=self.scheme["shuffled"],
            noisy=self.scheme["noisy"],
            drop_rate=self.scheme["drop_rate"],
            generator=generator,
        )
        features = self.colorizer.features(sketch_to_input(batch["sketch"]))

        def predict(z_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
            repeats = len(z_t) // len(z)  # two in dual training: both passes see the same sketch
            return self.colorizer(z_t, t, tokens, [f.repeat(repeats, 1, 1, 1) for f in features] if repeats > 1 else features)

        if self.scheme["dual"]:
            losses = dual_loss(predict, z, t, tokens, noise, normal(z), self.scheme["dual"], self.schedule)
        else:
            losses = diffusion_loss(predict, z, t, tokens, noise, self.schedule)
        if self.scheme["min_snr"]:
            losses = losses * min_snr_weight(t, self.scheme["min_snr"], self.schedule)
        return losses.mean()

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """The plain loss (Eq. 2) on fixed timesteps and noise, so that models and epochs compare."""
        z, count = batch["mean"], len(batch["mean"])
        t = torch.linspace(0, T - 1, count, device=self.device).long()
        noise = torch.randn(z.shape, generator=torch.Generator(self.device).manual_seed(batch_index), device=self.device)
        features = self.colorizer.features(sketch_to_input(batch["sketch"]))
        losses = diffusion_loss(
            lambda z_t, t, tokens: self.colorizer(z_t, t, tokens, features),
            z, t, self.colorizer.used(batch["tokens"]), noise, self.schedule,
        )  # fmt: skip
        self.log("val/loss", losses.mean(), prog_bar=True, batch_size=count)

    def on_train_start(self) -> None:
        self.began = time.perf_counter()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["seconds"] = self.earlier + time.perf_counter() - self.began

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.earlier = checkpoint["seconds"]

    def configure_optimizers(self) -> Any:
        options = self.optimizer_options
        optimizer = torch.optim.AdamW(
            self.colorizer.parameters(), options["peak"], betas=(0.9, 0.999), weight_decay=options["weight_decay"]
        )

        def factor(step: int) -> float:
            warm = min(1.0, (step + 1) / max(1, options["warmup"]))
            return warm * (max(0.0, 1 - step / self.steps) if options["decay_to_zero"] else 1.0)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
