"""Stage: trains the demo's autoencoder and writes its weights and card."""

import torch

from pipelines.backbone import checkpoint_of, images_of, save_part
from src.backbone.fit import fit
from src.backbone.parts import to_input
from src.backbone.vae import PatchVAE, vae_loss
from src.config import compose, plain


def main() -> None:
    config = compose()
    options = config.backbone.vae
    train, val = images_of(config, "train"), images_of(config, "val")
    torch.manual_seed(config.seed)
    vae = PatchVAE(**options.network).to(memory_format=torch.channels_last)

    def loss(rows):
        images = to_input(train[rows])
        if torch.rand(()) < 0.5:  # a mirrored drawing is a drawing
            images = images.flip(-1)
        value, psnr = vae_loss(vae, images, options.kl_weight)
        return {"loss": value, "psnr": psnr}

    checkpoint = checkpoint_of(config, "vae", ["color"], options=plain(options))
    figures = fit(vae, loss, rows=len(train), seed=config.seed, checkpoint=checkpoint, **options.fit)
    vae.eval()
    with torch.no_grad():
        latents = torch.cat([vae.encode(to_input(part))[0] for part in train[:2000].split(100)])
        vae.scaling_factor.copy_(1 / latents.std())
        errors = torch.cat(
            [
                (vae.decode(vae.encode(x)[0]).clamp(-1, 1) - x).square().mean((1, 2, 3))
                for x in (to_input(part) for part in val.split(100))
            ]
        )
    figures["val_psnr"] = float((10 * torch.log10(4 / errors)).mean())
    print(f"held-out PSNR {figures['val_psnr']:.2f} dB")
    save_part(config, "vae", vae.state_dict(), {"network": vae.config, "trained": figures})


if __name__ == "__main__":
    main()
