"""The denoiser against diffusers' own forward, the CLS layers against the attention that they replace."""

import pytest
import torch

from src.config import compose, plain
from src.model.colorizer import Colorizer
from src.model.unet import SketchEncoder, build_unet, denoise, with_cls_linear

NETWORK = plain(compose().backbone.unet)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return build_unet(NETWORK).eval()


@pytest.mark.parametrize("side", [16, 24, 18])
@torch.no_grad()
def test_without_a_sketch_it_is_diffusers_unet(unet, side: int) -> None:
    z, t, context = torch.randn(2, 4, side, side), torch.tensor([7, 900]), torch.randn(2, 5, 128)
    ours, theirs = denoise(unet, z, t, context), unet(z, t, context).sample
    assert torch.allclose(ours, theirs, atol=1e-5)


@torch.no_grad()
def test_an_untrained_sketch_encoder_changes_nothing(unet) -> None:
    encoder = SketchEncoder(NETWORK["stem"], NETWORK["widths"])
    maps = encoder(torch.rand(2, 3, 64, 64))
    assert [tuple(m.shape) for m in maps] == [(2, 48, 16, 16), (2, 48, 8, 8), (2, 96, 4, 4), (2, 144, 4, 4)]
    z, t, context = torch.randn(2, 4, 16, 16), torch.tensor([3, 4]), torch.randn(2, 5, 128)
    assert torch.equal(denoise(unet, z, t, context, maps), denoise(unet, z, t, context))


@torch.no_grad()
def test_every_sketch_map_reaches_the_output(unet) -> None:
    z, t, context = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.randn(1, 5, 128)
    shapes = [(48, 16), (48, 8), (96, 4), (144, 4)]
    plain_output = denoise(unet, z, t, context)
    for i in range(4):
        maps = [torch.ones(1, c, s, s) if i == j else torch.zeros(1, c, s, s) for j, (c, s) in enumerate(shapes)]
        assert not torch.allclose(denoise(unet, z, t, context, maps), plain_output, atol=1e-4)


@torch.no_grad()
def test_cls_layers_are_attention_to_one_token() -> None:
    torch.manual_seed(1)
    attention, linear = build_unet(NETWORK).eval(), build_unet(NETWORK).eval()
    linear.load_state_dict(attention.state_dict())
    with_cls_linear(linear)
    z, t, cls = torch.randn(2, 4, 16, 16), torch.tensor([10, 600]), torch.randn(2, 1, 128)
    assert torch.allclose(denoise(attention, z, t, cls), denoise(linear, z, t, cls), atol=1e-5)
    assert sum(p.numel() for p in linear.parameters()) < sum(p.numel() for p in attention.parameters())


@torch.no_grad()
def test_attention_does_not_depend_on_the_order_of_tokens(unet) -> None:
    """Cross-attention has no positions: what latent shuffle can hide is nothing but order, the contents stay."""
    z, t, context = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.randn(1, 9, 128)
    assert torch.allclose(denoise(unet, z, t, context), denoise(unet, z, t, context.flip(1)), atol=1e-5)


def test_kinds_look_at_their_own_tokens() -> None:
    tokens = torch.arange(5.0).view(1, 5, 1)
    assert Colorizer(NETWORK, "cls").used(tokens).flatten().tolist() == [0]
    assert Colorizer(NETWORK, "attention").used(tokens).flatten().tolist() == [1, 2, 3, 4]
