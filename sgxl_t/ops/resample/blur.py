"""Blur of the discriminator's input, fading out over the first images of training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sgxl_t.ops.resample.resample import filter2d


def blur_sigma(images_seen: float, init_sigma: float, fade_kimg: float) -> float:
    """Blur width in pixels: init_sigma at first, falling linearly to 0 at fade_kimg thousand images.

    ValueError for negative arguments. (Sauer et al. 2022, "StyleGAN-XL", section 3.2; Karras et al. 2021,
    appendix.)
    """
    if images_seen < 0 or init_sigma < 0 or fade_kimg < 0:
        raise ValueError(
            f"images_seen={images_seen}, init_sigma={init_sigma}, fade_kimg={fade_kimg}: none may be negative"
        )
    if fade_kimg == 0:
        return 0.0
    return init_sigma * max(1 - images_seen / (fade_kimg * 1000), 0.0)


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Bell-shaped blur of x [N, C, H, W] with zero padding, same size and dtype.

    sigma: pixels after which a tap has fallen to one half, so the standard deviation is sigma / sqrt(2 ln
    2). Taps are 2 ** -(i / sigma) ** 2 up to radius floor(3 sigma); a radius of 0 returns x. ValueError for
    a negative sigma.
    """
    if not sigma >= 0 or math.isinf(sigma):
        raise ValueError(f"sigma={sigma} must be a finite number of pixels, 0 or more")
    radius = math.floor(3 * sigma)
    if radius == 0:
        return x
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp2(-((offset / sigma) ** 2))
    return filter2d(x, (taps / taps.sum()).to(x, non_blocking=True))
