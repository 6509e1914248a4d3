"""What two latents make of one condition must differ: the mode seeking term of the generator's loss.

Mao et al. 2019, "Mode Seeking Generative Adversarial Networks for Diverse Image Synthesis", section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SAME = 0.01
"""Added to the distance of two images, which may be zero: a 200th of the range of a pixel."""


def more_latents(z: Tensor, share: float, rng: torch.Generator | None = None) -> Tensor:
    """Second latents for the first `share` of a batch z [N, z_dim], at least one: N(0, 1), [n, z_dim].

    rng: the stream that they are drawn from.
    """
    count = min(max(round(len(z) * share), 1), len(z))
    device = z.device if rng is None else rng.device
    return torch.randn((count, z.shape[1]), generator=rng, device=device).to(z)


def mode_seeking_loss(images: Tensor, others: Tensor, z: Tensor, other_z: Tensor) -> Tensor:
    """Mean over pairs of the latents' distance over the images' distance, both mean absolute differences.

    images, others: [n, C, R, R] in about [-1, 1], of latents z and other_z [n, z_dim] under the same
    conditions. Returns a float32 scalar: about 1.1 over the distance of the images where z ~ N(0, 1). It is
    steep where a condition gives one picture and flat where pictures already differ.
    """
    apart = (images.float() - others.float()).abs().flatten(1).mean(1)
    latents_apart = (z.float() - other_z.float()).abs().mean(1)
    return (latents_apart / (apart + _SAME)).mean()
