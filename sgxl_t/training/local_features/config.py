"""How small local feature networks are trained."""

from __future__ import annotations

from dataclasses import dataclass

from sgxl_t.networks.backbones.local_networks import SmallCNNConfig, SmallViTConfig

KINDS = ("cnn", "vit", "clip")


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Sizes and lengths that were measured on small images and one CPU core."""

    max_side: int = 64
    """Larger images are reduced to this side, in pixels."""
    max_pictures: int = 20_000
    """Pictures that are held in memory and trained on."""
    held_out_share: float = 0.1
    """Share of the images that only measures, at most 1000."""
    classifier_images: int = 13_000
    """Images a CNN sees when it learns from labels alone; a transformer sees twice as many."""
    contrastive_images: int = 48_000
    """Images a CNN sees when it learns from captions or views."""
    vit_images: int = 40_000
    """Images a transformer sees when it learns from captions or views."""
    steps: int | None = None
    """Steps of each training; none follows from the images above."""
    batch: int = 96
    """Images per step of contrastive learning; classifiers take two thirds."""
    noise: float = 0.0
    """Most noise on an image in [-1, 1], as a standard deviation. Shapes survive noise: a generator
    led by such features draws them, instead of textures that only the network likes."""
    lr: float = 3e-3
    """Highest learning rate of the one-cycle schedule."""
    weight_decay: float = 0.05
    """Weight decay of AdamW on matrices."""
    embed_dim: int = 64
    """Width of the space shared by captions and images."""
    text_width: int = 64
    """Width of the text encoder."""
    text_layers: int = 2
    """Blocks of the text encoder."""
    unknown_share: float = 0.02
    """Share of the words that are replaced by the unknown token while training, so that it means nothing."""
    label_weight: float = 1.0
    """Weight of the classifier's loss where captions are learnt too; 0 leaves the classifier out. Captions
    alone leave things of one colour mixed up: at 0.2 a twentieth of the images is misread, at 1 none."""
    cnn: SmallCNNConfig | None = None
    """Sizes of the CNN; none chooses by the size of the images."""
    vit: SmallViTConfig | None = None
    """Sizes of the transformer; none chooses by the size of the images."""

    def images(self, kind: str, contrastive: bool) -> int:
        """Images that a network sees."""
        if contrastive:
            return self.vit_images if kind == "vit" else self.contrastive_images
        return self.classifier_images * (2 if kind == "vit" else 1)
