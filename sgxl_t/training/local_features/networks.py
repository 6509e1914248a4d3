"""The small networks that a run trains itself, as they are before training."""

from __future__ import annotations

from typing import Any, Literal

from sgxl_t.networks.backbones.local_networks import SmallCNN, SmallCNNConfig, SmallViT, SmallViTConfig
from sgxl_t.networks.text.clip import ClipModel, Tokenizer, local_clip
from sgxl_t.networks.text.text_tower import TextTowerConfig
from sgxl_t.training.local_features.config import FeaturesConfig


def new_network(
    kind: Literal["cnn", "vit"], config: FeaturesConfig, *, resolution: int, classes: int, contrastive: bool
) -> SmallCNN | SmallViT:
    """An untrained network for images of at most config.max_side pixels.

    classes: of its classifier, 0 for none. contrastive: it also learns a space shared with captions or views.
    """
    sizes = config.cnn if kind == "cnn" else config.vit
    if isinstance(sizes, SmallCNNConfig):
        return SmallCNN(sizes)
    if isinstance(sizes, SmallViTConfig):
        return SmallViT(sizes)
    outputs: dict[str, Any] = {
        "image_size": resolution,
        "num_classes": classes,
        "projection": config.embed_dim if contrastive else 0,
    }
    if kind == "vit":  # at most 8 x 8 patches
        return SmallViT(SmallViTConfig(patch=max(4, resolution // 8), **outputs))
    # Tiny images get wider deep stages, whose maps cost little.
    channels = (16, 32, 64, 96) if resolution <= 16 else (16, 32, 48, 64)
    return SmallCNN(SmallCNNConfig(channels=channels, **outputs))


def new_clip(
    tokenizer: Tokenizer, vocab_size: int, config: FeaturesConfig, image: SmallCNN | None
) -> ClipModel:
    """An untrained CLIP around the CNN, or its text encoder alone."""
    text = TextTowerConfig(
        embed_dim=config.embed_dim,
        width=config.text_width,
        layers=config.text_layers,
        vocab_size=vocab_size,
        context_length=tokenizer.context_length,
    )
    return local_clip(text, tokenizer, image)
