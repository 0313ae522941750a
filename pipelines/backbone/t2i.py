"""Stage: trains the demo's text-to-image U-Net on recolourings and captions: the pretrained start of every colorizer."""

from pathlib import Path

import torch

from pipelines.backbone import checkpoint_of, metas_of, save_part
from src.backbone.clip import text_tokens
from src.backbone.fit import fit
from src.backbone.parts import load_backbone
from src.config import compose, plain
from src.data.loader import Table
from src.model.diffusion import T, alphas_cumprod, diffusion_loss
from src.model.unet import build_unet, denoise


def main() -> None:
    config = compose()
    options, root = config.backbone.t2i, Path(config.backbone.data)
    backbone = load_backbone(config.backbone)
    table = Table(root / "train", ["latent"])
    samples = [table[row] for row in range(len(table))]
    mean, std = (torch.stack([s[name] for s in samples]) for name in ("mean", "std"))
    captions = [meta["caption"] for meta in metas_of(config, "train")]
    torch.manual_seed(config.seed)
    network = plain(config.backbone.unet)
    unet = build_unet(network).to(memory_format=torch.channels_last)
    schedule = alphas_cumprod()

    def loss(rows):
        z = mean[rows] + std[rows] * torch.randn_like(std[rows])
        t = torch.randint(T, (len(z),))
        texts = ["" if torch.rand(()) < options.drop else captions[i] for i in rows]
        with torch.no_grad():
            context = text_tokens(backbone.clip, backbone.vocabulary(texts))

        def predict(z_t, t, context):
            return denoise(unet, z_t.contiguous(memory_format=torch.channels_last), t, context)

        return {"loss": diffusion_loss(predict, z, t, context, torch.randn_like(z), schedule).mean()}

    settings = {"options": plain(options), "network": network, "backbone": backbone.fingerprint}
    checkpoint = checkpoint_of(config, "t2i", ["latent", "color"], **settings)
    figures = fit(unet, loss, rows=len(table), seed=config.seed, checkpoint=checkpoint, **options.fit)
    save_part(config, "t2i", unet.state_dict(), {"network": network, "backbone": backbone.fingerprint, "trained": figures})


if __name__ == "__main__":
    main()
