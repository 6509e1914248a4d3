"""Everything that decides what is minimised, as one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Losses, their weights and their order. All losses are means over the global batch (see weights.py)."""

    loss: Literal["hinge", "relativistic"] = "hinge"
    """hinge: both papers' loss. relativistic: R3GAN's, which compares each generated image with the real one
    of the same condition; the generator's update then reads the real images too."""
    gradient_penalty: float = 0.0
    """Half of it weighs, in the discriminator's loss, the mean squared slope of its score along an image's
    pixels, at real images (R1) plus at generated ones (R2): the gamma of R3GAN. 0 switches it off; otherwise
    the discriminator's update runs in float32 and through second derivatives, which is slow."""
    order: Literal["g_first", "d_first"] = "g_first"
    """Which network is updated first in an iteration: StyleGAN-XL g_first, StyleGAN-T d_first."""
    share_fakes: bool = False
    """Let the discriminator phase reuse the generator phase's images and features instead of drawing new
    ones: saves one generator pass and half of a feature pass per iteration; needs order g_first."""
    d_alone_kimg: float = 0.0
    """Thousand images at first in which the discriminator learns alone: fresh heads would spoil a generator
    that has learnt before. Not in the papers."""
    average_w: Literal["d_phase", "all_phases"] = "d_phase"
    """Phases in which the generator's running average of w moves: XL d_phase, T all_phases."""
    blur_init_sigma: float = 2.0
    """Blur of every image before the discriminator at the start, in pixels (base 2); 0 switches it off."""
    blur_fade_kimg: float = 300.0
    """Thousand images after which the blur is gone."""
    cls_weight: float = 0.0
    """Weight of the classifier's mean cross-entropy in the generator's loss; 0 switches it off."""
    mismatch_weight: float = 0.0
    """Weight in the discriminator's loss of real images beside another image's condition, which
    count as generated; 0 switches it off."""
    clip_weight: float = 0.0
    """Weight of the mean squared angle to the caption in CLIP; 0 switches it off."""
    clip_crop: int = 64
    """Larger images are cropped to this size, in pixels, before CLIP."""
    stem_weight: float = 0.0
    """Weight of the mean squared difference, in [-1, 1], between a grown generator's images, scaled down,
    and its stem's images of the same latents; 0 switches it off. Not in the papers: it keeps what the stem
    has learned while a new head is trained for a short time."""
    diversity_weight: float = 0.0
    """Weight in the generator's loss of the distance of two latents over that of their images under one
    condition (mode seeking, Mao et al. 2019): pictures of one caption or class come to differ. 0 switches it
    off, as the papers."""
    diversity_of: Literal["pixels", "features"] = "pixels"
    """What diversity_weight compares two images by: pixels, as Mao et al., or the discriminator's frozen
    features averaged over places, to which a shape that moves stays the same (not in the paper)."""
    diversity_share: float = 0.25
    """Share of a round's images for which diversity_weight makes a second one, to save time."""
    following_weight: float = 0.0
    """Weight in the generator's loss of knowing a generated picture, in the discriminator's frozen features,
    by the real one that the generator was told of (generator.stylegan_t.instances), among those of the batch;
    0 switches it off. Not in the papers."""
    pl_weight: float = 0.0
    """Weight of the path length penalty; 0 switches it off."""
    pl_interval: int = 4
    """Iterations between two path length updates of the generator."""
    pl_start_kimg: float = 1000.0
    """Thousand images before the first path length update."""
    pl_decay: float = 0.01
    """Share of new path lengths in their running mean."""
    pl_batch_shrink: int = 2
    """Path lengths are taken from the first 1/pl_batch_shrink of a round's latents, to save memory."""

    def __post_init__(self) -> None:
        not_negative = (
            "d_alone_kimg",
            "blur_init_sigma",
            "blur_fade_kimg",
            "cls_weight",
            "clip_weight",
            "stem_weight",
            "diversity_weight",
            "following_weight",
            "pl_weight",
            "mismatch_weight",
            "gradient_penalty",
        )
        for name in (*not_negative, "pl_start_kimg"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"objective.{name}={getattr(self, name)} must not be negative: use 0 or more"
                )
        for name in ("clip_crop", "pl_interval", "pl_batch_shrink"):
            if getattr(self, name) < 1:
                raise ValueError(f"objective.{name}={getattr(self, name)} must be at least 1: raise it")
        if self.share_fakes and self.order != "g_first":
            raise ValueError(
                f"objective.share_fakes=true with order={self.order}: the generator must be updated first, "
                "set objective.order to g_first"
            )
        if self.share_fakes and self.gradient_penalty > 0:
            raise ValueError(
                f"objective.gradient_penalty={self.gradient_penalty} with share_fakes=true: the penalty "
                "needs the images, of which only features are shared; set objective.share_fakes to false"
            )
        if not 0 < self.diversity_share <= 1:
            raise ValueError(
                f"objective.diversity_share={self.diversity_share} must lie in (0, 1]: 0.25 takes a quarter"
            )
        if not 0 < self.pl_decay <= 1:
            raise ValueError(
                f"objective.pl_decay={self.pl_decay} must lie in (0, 1]: the paper's value is 0.01"
            )
