"""Stage: trains the demo's CLIP on drawings, captions and region phrases; writes weights, vocabulary and card."""

import numpy as np
import torch

from pipelines.backbone import checkpoint_of, images_of, metas_of, save_part
from src.backbone.clip import (
    Vocabulary,
    build_clip,
    contrastive_loss,
    exchange_colour,
    image_tokens,
    region_loss,
    region_pool,
    text_features,
)
from src.backbone.fit import fit
from src.backbone.parts import to_input
from src.config import compose, plain
from src.data.palette import FAMILIES

COLOURS = sorted(FAMILIES)
NOUNS = ("", " hair", " skin", " clothes")
PHRASES = [colour + noun for noun in NOUNS for colour in COLOURS]
MOST_REGIONS = 12


def region_labels(metas: list[dict]) -> torch.Tensor:
    """The phrase of every region [N, MOST_REGIONS]; -1 where there is none."""
    labels = torch.full((len(metas), MOST_REGIONS), -1)
    for row, meta in zip(labels, metas, strict=True):
        for i, part in enumerate(meta["parts"][:MOST_REGIONS]):
            noun = {"color": " clothes" if meta["person"] else ""}.get(part["part"], " " + part["part"])
            row[i] = PHRASES.index(part["color"] + noun)
    return labels


def main() -> None:
    config = compose()
    options = config.backbone.clip
    images, regions = images_of(config, "train"), images_of(config, "train", "regions.png", "L")
    metas = metas_of(config, "train")
    captions = [meta["caption"] for meta in metas]
    labels = region_labels(metas)
    vocabulary = Vocabulary.of(captions + PHRASES, options.context_length)
    torch.manual_seed(config.seed)
    settings = plain(options)
    network = {key: settings[key] for key in ("embed_dim", "context_length", "vision", "text")}
    network["vocab_size"] = len(vocabulary)
    clip = build_clip(**network)

    logit_scale: torch.Tensor = clip.get_parameter("logit_scale")

    def loss(rows: np.ndarray) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        batch, labelled = to_input(images[rows]), regions[rows]
        if rng.random() < 0.5:
            batch, labelled = batch.flip(-1), labelled.flip(-1)
        texts = [captions[i] for i in rows]
        wrong = [exchange_colour(text, COLOURS, rng) for text in texts]
        tokens = image_tokens(clip, batch)
        features = text_features(clip, vocabulary(texts + wrong + PHRASES))
        right, other, phrases = features.split([len(rows), len(rows), len(PHRASES)])
        scale = logit_scale.exp().clamp_max(100)
        caption_loss = contrastive_loss(torch.nn.functional.normalize(tokens[:, 0], dim=-1), right, other, scale)
        pooled, share = region_pool(tokens[:, 1:], labelled, MOST_REGIONS)
        local_loss = region_loss(pooled, share, labels[rows], phrases, scale)
        return {"loss": caption_loss + 0.5 * local_loss, "caption": caption_loss, "region": local_loss}

    checkpoint = checkpoint_of(config, "clip", ["color"], options=settings)
    figures = fit(clip, loss, rows=len(images), seed=config.seed, checkpoint=checkpoint, **options.fit)
    clip.eval()
    figures |= measure(clip, vocabulary, config)
    print(figures)
    save_part(config, "clip", clip.state_dict(), {"network": network, "kept": vocabulary.kept, "trained": figures})


@torch.no_grad()
def measure(clip: torch.nn.Module, vocabulary: Vocabulary, config) -> dict[str, float]:
    """Held-out quality: colour word of a caption, colour of a named region, caption retrieval among 200 recolourings."""
    images, regions = images_of(config, "val"), images_of(config, "val", "regions.png", "L")
    metas = metas_of(config, "val")
    captions, labels = [m["caption"] for m in metas], region_labels(metas)
    tokens = torch.cat([image_tokens(clip, to_input(part)) for part in images.split(100)])
    cls = torch.nn.functional.normalize(tokens[:, 0], dim=-1)
    rng = np.random.default_rng(0)
    wrong = [exchange_colour(text, COLOURS, rng) for text in captions]
    right_text, wrong_text = (text_features(clip, vocabulary(t)) for t in (captions, wrong))
    changed = torch.tensor([a != b for a, b in zip(captions, wrong, strict=True)])
    margin = ((cls * right_text).sum(1) - (cls * wrong_text).sum(1))[changed]
    pooled, share = region_pool(tokens[:, 1:], regions, MOST_REGIONS)
    phrases = text_features(clip, vocabulary(PHRASES)).view(len(NOUNS), len(COLOURS), -1)
    hits, seen = 0, 0
    for i, j in zip(*torch.where((labels >= len(COLOURS)) & (share > 0.01)), strict=True):
        noun, colour = divmod(int(labels[i, j]), len(COLOURS))
        hits += int((phrases[noun] @ pooled[i, j]).argmax()) == colour
        seen += 1
    chosen = np.random.default_rng(1).permutation(len(cls))[:200]
    ranks = (cls[chosen] @ right_text[chosen].T).argsort(1, descending=True)
    recall = (ranks[:, :10] == torch.arange(len(chosen))[:, None]).any(1).float().mean()
    return {
        "val_caption_colour": float((margin > 0).float().mean()),
        "val_region_colour": hits / max(seen, 1),
        "val_regions": float(seen),
        "val_recall_at_10": float(recall),
    }


if __name__ == "__main__":
    main()
