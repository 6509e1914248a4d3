"""Fused self-attention: what torch's own gives, with and without gradients, and only where it is plain."""

import copy

import pytest
import torch
from tiny_clips import tiny_open_clip
from torch import nn

from sgxl_t.networks.backbones.fused_attention import FusedSelfAttention, fuse_attention


def attention(**options):
    torch.manual_seed(0)
    return nn.MultiheadAttention(16, 4, **{"batch_first": True} | options).eval().requires_grad_(False)


@pytest.mark.parametrize("bias", [True, False])
def test_values_and_slopes_are_those_of_torch(bias):
    plain = attention(bias=bias)
    fused = copy.deepcopy(plain)
    fuse_attention(fused)
    assert type(fused) is FusedSelfAttention
    assert fused.state_dict().keys() == plain.state_dict().keys()
    results = []
    for layer in (plain, fused):
        x = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y, weights = layer(x, x, x, need_weights=False)
        y.square().sum().backward()
        assert weights is None
        results.append((y, x.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_masks_other_keys_and_asked_for_weights_go_the_usual_way():
    plain = attention()
    fused = copy.deepcopy(plain)
    fuse_attention(fused)
    x, other = torch.randn(2, 2, 5, 16)
    mask = torch.ones(5, 5).triu(1).bool()
    for call in (
        lambda layer: layer(x, x, x, need_weights=False, attn_mask=mask),
        lambda layer: layer(x, other, other, need_weights=False),
        lambda layer: layer(x, x, x),
    ):
        for ours, theirs in zip(call(fused), call(plain), strict=True):
            assert (ours is None and theirs is None) or torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "options", [{"batch_first": False}, {"kdim": 8}, {"add_bias_kv": True}, {"dropout": 0.1}]
)
def test_other_kinds_stay_as_they_are(options):
    layer = attention(**options)
    fuse_attention(layer)
    assert type(layer) is nn.MultiheadAttention


def test_only_the_image_tower_of_a_clip_is_changed(monkeypatch):
    from sgxl_t.networks.text.clip import ClipModel

    model = tiny_open_clip(monkeypatch)
    before = model.visual(torch.ones(2, 3, 32, 32))
    ClipModel(model, lambda texts: texts, None, dim=12, image_size=32)
    kinds = {part: {type(m) for m in getattr(model, part).modules()} for part in ("visual", "transformer")}
    assert FusedSelfAttention in kinds["visual"]
    assert FusedSelfAttention not in kinds["transformer"]
    torch.testing.assert_close(model.visual(torch.ones(2, 3, 32, 32)), before)
