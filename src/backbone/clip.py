"""CLIP's image tokens and text features, through open_clip's own class, and the demo CLIP's training objective.

Image tokens follow the paper (Section 3.3): CLS and n local tokens, each after the final layer norm and the projection, so that
they live in one space with the text embedding.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def image_tokens(clip: Any, images: Tensor) -> Tensor:
    """Projected tokens [B, 1 + n, D], unnormalised; row 0 is CLS. Images [B, 3, H, W] in [-1, 1], resized to CLIP's own size.

    Reference images are resized bicubically with antialiasing and `align_corners=True`, as the authors' implementation does.
    """
    visual = clip.visual
    size = visual.image_size if isinstance(visual.image_size, tuple) else (visual.image_size,) * 2
    if images.shape[-2:] != size:
        images = F.interpolate(images, size, mode="bicubic", align_corners=True, antialias=True)
    mean = images.new_tensor(MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(STD).view(1, 3, 1, 1)
    x = ((images + 1) / 2 - mean) / std
    x = visual.conv1(x.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2)  # => [B, n, width]
    cls = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    x = torch.cat([cls, x], 1) + visual.positional_embedding.to(x.dtype)
    x = visual.transformer(visual.ln_pre(visual.patch_dropout(x)))
    return visual.ln_post(x) @ visual.proj


def text_tokens(clip: Any, ids: Tensor) -> Tensor:
    """Text states [B, L, D] after the final layer norm and the projection: the context of a text-to-image U-Net."""
    x = clip.token_embedding(ids) + clip.positional_embedding[: ids.shape[1]]
    x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[: ids.shape[1], : ids.shape[1]]))
    return x @ clip.text_projection


def text_features(clip: Any, ids: Tensor) -> Tensor:
    """Pooled text features [B, D] of unit length."""
    pooled = text_tokens(clip, ids)[torch.arange(len(ids)), ids.argmax(-1)]
    return F.normalize(pooled, dim=-1)


class Vocabulary:
    """CLIP's byte-pair tokens, reduced to those in use: the full table is most of a small model's weights.

    `kept` are ids of the full table, ascending; id 0 here stands for every other one. The end token keeps the highest id.
    """

    def __init__(self, kept: Sequence[int], context_length: int) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        self.kept = list(kept)
        self.context_length = context_length
        self._full = SimpleTokenizer()
        self._id = {full: i for i, full in enumerate(self.kept, 1)}

    def __len__(self) -> int:
        return len(self.kept) + 1

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Ids [B, context_length], padded with 0 and cut where too long."""
        ids = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        start, end = self._id[self._full.sot_token_id], self._id[self._full.eot_token_id]
        for row, text in zip(ids, texts, strict=True):
            body = [self._id.get(token, 0) for token in self._full.encode(text)][: self.context_length - 2]
            row[: len(body) + 2] = torch.tensor([start, *body, end])
        return ids

    def unknown(self, text: str) -> list[str]:
        """The words of a text that the model has never seen."""
        words = re.findall(r"\w+", text.lower())
        return [w for w in words if any(token not in self._id for token in self._full.encode(w))]

    @classmethod
    def of(cls, texts: Sequence[str], context_length: int) -> "Vocabulary":
        from open_clip.tokenizer import SimpleTokenizer

        full = SimpleTokenizer()
        kept = {token for text in texts for token in full.encode(text)} | {full.sot_token_id, full.eot_token_id}
        return cls(sorted(kept), context_length)


def build_clip(embed_dim: int, context_length: int, vocab_size: int, vision: dict, text: dict) -> nn.Module:
    """open_clip's class with a small configuration; the tokens of this project need a projecting, class-token image tower."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    return CLIP(
        embed_dim,
        CLIPVisionCfg(**vision),
        CLIPTextCfg(context_length=context_length, vocab_size=vocab_size, **text),
    )


def region_pool(tokens: Tensor, regions: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean local token of each region [B, count, D], and the region's share of the image [B, count].

    tokens [B, n, D] of a square grid; regions [B, H, W] with 0 = none and 1..count.
    """
    side = int(tokens.shape[1] ** 0.5)
    one_hot = F.one_hot(regions.long().clamp_max(count), count + 1)[..., 1:].permute(0, 3, 1, 2).float()
    cover = F.adaptive_avg_pool2d(one_hot, side).flatten(2)  # => [B, count, n]
    weight = cover / cover.sum(-1, keepdim=True).clamp_min(1e-6)
    return weight @ tokens, cover.mean(-1)


def contrastive_loss(image: Tensor, text: Tensor, wrong: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss (Radford et al. 2021) with one more negative an image: its caption with a colour word exchanged.

    image, text, wrong: unit vectors [B, D].
    """
    logits = scale * image @ torch.cat([text, wrong]).T  # => [B, 2B]
    target = torch.arange(len(image))
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, : len(image)].T, target))


def region_loss(pooled: Tensor, share: Tensor, label: Tensor, phrases: Tensor, scale: Tensor, least: float = 0.01) -> Tensor:
    """Classifies every region's mean token among all phrases ("red hair", "blue", ...), so that local tokens know their words.

    pooled [B, k, D]; label [B, k], -1 = no phrase; phrases [P, D] of unit length.
    """
    used = (share > least) & (label >= 0)
    logits = scale * F.normalize(pooled[used], dim=-1) @ phrases.T
    return F.cross_entropy(logits, label[used]) if used.any() else pooled.sum() * 0


def exchange_colour(caption: str, colours: Sequence[str], rng: np.random.Generator) -> str:
    """The caption with one of its colour words replaced by a word that it does not contain; unchanged without a colour word."""
    words = caption.split()
    places = [i for i, w in enumerate(words) if w.strip(",") in colours]
    if not places:
        return caption
    others = [c for c in colours if c not in {w.strip(",") for w in words}]
    place = places[rng.integers(len(places))]
    old = words[place].strip(",")
    words[place] = words[place].replace(old, others[rng.integers(len(others))])
    return " ".join(words)
