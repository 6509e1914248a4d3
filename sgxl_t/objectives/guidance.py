"""Guidance of the generator by a frozen classifier (StyleGAN-XL), CLIP (StyleGAN-T) or stem."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.networks.discriminators.discriminator_t import area_resize

# arcsin has an infinite slope at 1; this keeps the gradient of opposite vectors finite (about 1e3).
_OPPOSITE = 1.0 - 1e-6
# sqrt has an infinite slope at 0; below this squared half distance the vectors count as equal.
_EQUAL = 1e-12


class Classifier(Protocol):
    """What classifier guidance needs of a feature network."""

    def logits(self, images01: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [0, 1], any size, to class scores [N, classes]; resizes and normalises."""


class ImageTower(Protocol):
    """What CLIP guidance needs of a CLIP."""

    image_size: int

    def encode_image(self, images01: Tensor) -> Tensor:
        """Images [N, 3, S, S] in [0, 1] to unit vectors [N, dim]; normalises itself."""


class Stem(Protocol):
    """What guidance by the generator below needs of it."""

    def images(self) -> Tensor:
        """[N, C, r, r] in about [-1, 1], of the latents that the generator saw last; without a graph."""


def classifier_guidance(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of a frozen classifier (StyleGAN-XL, section 3.4).

    images: [N, 3, H, W] in about [-1, 1], neither blurred nor augmented. labels: int64 [N].
    """
    return F.cross_entropy(classifier.logits(images.float() * 0.5 + 0.5).float(), labels)


def random_crop(images: Tensor, size: int, rng: torch.Generator | None = None) -> Tensor:
    """One random window of `size` pixels, at the same place in every image; smaller images pass unchanged."""
    height, width = images.shape[-2:]
    if height <= size and width <= size:
        return images
    device = rng.device if rng is not None else torch.device("cpu")
    top, left = (
        int(torch.randint(max(side - size, 0) + 1, (), generator=rng, device=device))
        for side in (height, width)
    )
    return images[..., top : top + size, left : left + size]


def clip_guidance(
    clip: ImageTower,
    images: Tensor,
    text_features: Tensor,
    *,
    crop: int = 64,
    rng: torch.Generator | None = None,
) -> Tensor:
    """Mean squared angle between images and captions in a frozen CLIP (StyleGAN-T, section 3.3).

    images: [N, 3, H, W] in about [-1, 1], neither blurred nor augmented; larger ones are cropped to `crop`
    pixels at one random place per call, because guidance on whole large images hurts. Then they are
    area-resized to the tower's own image size. text_features: [N, dim]. Returns radians squared.
    """
    images = random_crop(images.float() * 0.5 + 0.5, crop, rng)
    images = area_resize(images, clip.image_size)
    return spherical_distance(clip.encode_image(images), text_features).mean()


def stem_guidance(images: Tensor, stem_images: Tensor) -> Tensor:
    """Mean squared difference of images, area-resized to the stem's side, from the stem's images.

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
