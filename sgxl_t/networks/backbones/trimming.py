"""Drops what a discriminator's frozen network never computes: later blocks, final norm, classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from sgxl_t.networks.backbones.image_backbones import (
    ImageBackbone,
    LocalBackbone,
    OpenClipViT,
    TimmClipBackbone,
    TimmCNN,
    TimmViT,
)


def trim_backbone(backbone: ImageBackbone, taps: Sequence[int] | None) -> None:
    """Leaves a backbone with what `tokens` at these taps needs; none: with what `maps` needs.

    Its pooled features and logits cannot be had any more. Other kinds of backbones stay whole.
    """
    last = max(backbone.default_taps if taps is None else taps, default=0)
    if isinstance(backbone, TimmCNN):
        _prune(backbone.model, backbone.levels)
    elif isinstance(backbone, TimmViT):
        _prune(backbone.model, [last])
        backbone.blocks = backbone.model.blocks
    elif isinstance(backbone, OpenClipViT):
        _trim_open_clip(backbone, last)
    elif isinstance(backbone, TimmClipBackbone):
        trim_backbone(backbone.trunk, taps)
        backbone.visual.head = nn.Identity()
    elif isinstance(backbone, LocalBackbone):
        _trim_local(backbone, last)
    backbone.has_logits = False


def _prune(model: Any, levels: list[int]) -> None:
    """timm's own way; networks without it stay whole."""
    if hasattr(model, "prune_intermediate_layers"):
        model.prune_intermediate_layers(levels, prune_norm=True, prune_head=True)


def _trim_open_clip(backbone: OpenClipViT, last: int) -> None:
    visual = backbone.visual
    backbone.blocks = visual.transformer.resblocks = visual.transformer.resblocks[: last + 1]
    visual.ln_post, visual.proj, visual.attn_pool = nn.Identity(), None, None


def _trim_local(backbone: LocalBackbone, last: int) -> None:
    model: Any = backbone.model
    model.classifier = model.projection = None
    if model.kind == "vit":
        model.blocks = model.blocks[: last + 1]
        model.depth, model.norm = len(model.blocks), nn.Identity()
