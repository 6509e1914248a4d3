"""Drops what a discriminator's frozen network never computes: later blocks, final norm, classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from sgxl_t.networks.backbones.image_backbones import (
    LocalTower,
    OpenClipViT,
    TimmClipTower,
    TimmCNN,
    TimmViT,
    Tower,
)


def trim_tower(tower: Tower, taps: Sequence[int] | None) -> None:
    """Leaves a tower with what `tokens` at these taps needs; none: with what `maps` needs.

    Its pooled features and logits cannot be had any more. Towers of other makes stay whole.
    """
    last = max(tower.default_taps if taps is None else taps, default=0)
    if isinstance(tower, TimmCNN):
        _prune(tower.model, tower.levels)
    elif isinstance(tower, TimmViT):
        _prune(tower.model, [last])
        tower.blocks = tower.model.blocks
    elif isinstance(tower, OpenClipViT):
        _trim_open_clip(tower, last)
    elif isinstance(tower, TimmClipTower):
        trim_tower(tower.trunk, taps)
        tower.visual.head = nn.Identity()
    elif isinstance(tower, LocalTower):
        _trim_local(tower, last)
    tower.has_logits = False


def _prune(model: Any, levels: list[int]) -> None:
    """timm's own way; networks without it stay whole."""
    if hasattr(model, "prune_intermediate_layers"):
        model.prune_intermediate_layers(levels, prune_norm=True, prune_head=True)


def _trim_open_clip(tower: OpenClipViT, last: int) -> None:
    visual = tower.visual
    tower.blocks = visual.transformer.resblocks = visual.transformer.resblocks[: last + 1]
    visual.ln_post, visual.proj, visual.attn_pool = nn.Identity(), None, None


def _trim_local(tower: LocalTower, last: int) -> None:
    model: Any = tower.model
    model.classifier = model.projection = None
    if model.kind == "vit":
        model.blocks = model.blocks[: last + 1]
        model.depth, model.norm = len(model.blocks), nn.Identity()
