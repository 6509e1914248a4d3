"""Guidance of the generator by a frozen classifier (StyleGAN-XL), CLIP (StyleGAN-T) or stem: each loss, and
their weighted sum."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.discriminators.discriminator_t import area_resize
from sgxl_t.objectives.config import ObjectiveConfig
from sgxl_t.ops.images import as_rgb

# arcsin has an infinite slope at 1; this keeps the gradient of opposite vectors finite (about 1e3).
_OPPOSITE = 1.0 - 1e-6
# sqrt has an infinite slope at 0; below this squared half distance the vectors count as equal.
_EQUAL = 1e-12


class Classifier(Protocol):
    """What classifier guidance needs of a feature network."""

    def logits(self, images01: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [0, 1], any size, to class scores [N, classes]; resizes and normalises."""


class ImageEncoder(Protocol):
    """What CLIP guidance needs of a CLIP."""

    image_size: int

    def encode_image(self, images01: Tensor) -> Tensor:
        """Images [N, 3, S, S] in [0, 1] to unit vectors [N, dim]; normalises itself."""


class Stem(Protocol):
    """What guidance by a stem, the generator below the one that grows, needs of it."""

    def images(self) -> Tensor:
        """Images [N, C, r, r], about [-1, 1], of the latents that the generator saw last; without a graph."""


def classifier_guidance(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of a frozen classifier (StyleGAN-XL, section 3.4).

    images: [N, 3, H, W] in about [-1, 1], neither blurred nor augmented. labels: int64 [N]. Returns a scalar.
    """
    return F.cross_entropy(classifier.logits(images.float() * 0.5 + 0.5).float(), labels)


def random_crop(images: Tensor, size: int, rng: torch.Generator | None = None) -> Tensor:
    """images [N, C, H, W] -> one random window of `size` pixels, at the same place in every image.

    Images no larger than that pass unchanged. rng: of the place.
    """
    height, width = images.shape[-2:]
    if height <= size and width <= size:
        return images
    device = rng.device if rng is not None else torch.device("cpu")
    top, left = (
        int(torch.randint(max(length - size, 0) + 1, (), generator=rng, device=device))
        for length in (height, width)
    )
    return images[..., top : top + size, left : left + size]


def clip_guidance(
    clip: ImageEncoder,
    images: Tensor,
    text_features: Tensor,
    *,
    crop: int = 64,
    rng: torch.Generator | None = None,
) -> Tensor:
    """Mean squared angle between images and captions in a frozen CLIP (StyleGAN-T, section 3.3).

    images: [N, 3, H, W] in about [-1, 1], neither blurred nor augmented; larger ones are cropped to `crop`
    pixels at one random place per call, because guidance on whole large images hurts. Then they are
    area-resized to the CLIP's own image size. text_features: [N, dim]. Returns radians squared, a scalar.
    """
    images = random_crop(images.float() * 0.5 + 0.5, crop, rng)
    images = area_resize(images, clip.image_size)
    return spherical_distance(clip.encode_image(images), text_features).mean()


def stem_guidance(images: Tensor, stem_images: Tensor) -> Tensor:
    """Mean squared difference of images, area-resized to the stem's resolution, from the stem's images.

    images: [N, C, R, R]; stem_images: [N, C, r, r] of the same latents, r at most R; both in about [-1, 1].
    """
    return F.mse_loss(area_resize(images.float(), stem_images.shape[-1]), stem_images.float())


def spherical_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared angle arccos(cos(a, b))^2 in radians squared, of vectors [..., D]; returns [...].

    Both are normalised inside. Computed as (2 arcsin(|a - b| / 2))^2, which is the same number but, unlike
    arccos, is exact for nearly parallel vectors and has a finite gradient for equal and opposite ones.
    """
    difference = F.normalize(a.float(), dim=-1) - F.normalize(b.float(), dim=-1)
    half_chord = (difference.square().sum(dim=-1) / 4).clamp(_EQUAL, _OPPOSITE).sqrt()
    return (2 * half_chord.asin()).square()


def check_clip(config: ObjectiveConfig, clip: ImageEncoder | None) -> None:
    """ValueError where clip_weight has no CLIP to act through."""
    if clip is None:
        raise ValueError(
            f"objective.clip_weight={config.clip_weight} needs a CLIP with an image tower: name one in "
            "conditioning.text_encoder, or set objective.clip_weight to 0"
        )


class Guidance:
    """Frozen networks that judge generated images, each with the weight that the configuration gives it.

    classifier is needed for cls_weight, clip for clip_weight, stem for stem_weight: ValueError without.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        *,
        classifier: Classifier | None = None,
        clip: ImageEncoder | None = None,
        stem: Stem | None = None,
    ) -> None:
        if config.cls_weight > 0 and classifier is None:
            raise ValueError(
                f"objective.cls_weight={config.cls_weight} needs a classifier: name one in "
                "conditioning.classifier, or set objective.cls_weight to 0"
            )
        if config.clip_weight > 0:
            check_clip(config, clip)
        if config.stem_weight > 0 and stem is None:
            raise ValueError(
                f"objective.stem_weight={config.stem_weight} needs a generator to grow on: name one in stem, "
                "list stages, or set objective.stem_weight to 0"
            )
        self.config = config
        self.classifier, self.clip, self.stem = classifier, clip, stem

    def __call__(
        self, images: Tensor, cond: Conditioning, rng: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each part unweighted and detached under the name it is reported by.

        images: [N, 3, R, R] in about [-1, 1], neither blurred nor augmented, of the generator's last pass.
        cond: with labels for cls_weight, with guide for clip_weight.
        """
        config, parts = self.config, dict[str, tuple[float, Tensor]]()
        if config.cls_weight > 0:
            assert self.classifier is not None
            assert cond.labels is not None, "classifier guidance needs labels"
            entropy = classifier_guidance(self.classifier, images, cond.labels)
            parts["loss/classifier"] = config.cls_weight, entropy
        if config.clip_weight > 0:
            assert self.clip is not None
            assert cond.guide is not None, "CLIP guidance needs text features"
            distance = clip_guidance(self.clip, images, cond.guide, crop=config.clip_crop, rng=rng)
            parts["loss/clip"] = config.clip_weight, distance
        if config.stem_weight > 0:
            assert self.stem is not None
            below = as_rgb(self.stem.images())[: len(images)]  # it also saw the latents of the diversity term
            parts["loss/stem"] = config.stem_weight, stem_guidance(images, below)
        total = sum(
            (weight * value for weight, value in parts.values()), torch.zeros((), device=images.device)
        )
        return total, {name: value.detach() for name, (_, value) in parts.items()}
