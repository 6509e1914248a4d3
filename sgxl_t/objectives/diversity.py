"""What two latents make of one condition must differ: the mode seeking term of the generator's loss.

Mao et al. 2019, "Mode Seeking Generative Adversarial Networks for Diverse Image Synthesis", section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sgxl_t.objectives.averaged import averaged

_SAME = 0.01
"""Added to the distance of two images, which may be zero: a 200th of the range of a pixel."""
_SAME_SHARE = 0.05
"""Added to the distance of two images' features, as a share of the usual one."""
_TINY = 1e-8
"""Keeps features that are the same in all images from dividing by zero."""


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


def mode_seeking_features(features: object, others: object, z: Tensor, other_z: Tensor) -> Tensor:
    """The same with images compared by what a frozen network sees in them, wherever it is.

    features: nested lists of maps [N, C, ...], N > 1, of a batch. others: of n <= N more images under the
    conditions of the first n. z, other_z: [n, z_dim]. Maps are averaged over their places, so that a thing
    that only moves counts as the same. Their distance is taken as a share of that between neighbours in the
    batch, whose conditions differ; no gradient widens the latter. Returns a float32 scalar.
    """
    latents_apart = (z.float() - other_z.float()).abs().mean(1)
    terms = []
    for here, there in zip(averaged(features), averaged(others), strict=True):
        usual = (here - here.roll(1, dims=0)).abs().mean().detach()
        apart = (here[: len(there)] - there).abs().mean(1)
        terms.append((latents_apart * usual / (apart + _SAME_SHARE * usual + _TINY)).mean())
    return torch.stack(terms).mean()
