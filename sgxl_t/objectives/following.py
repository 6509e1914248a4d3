"""A generator that is told of pictures follows what it is told: a contrast in the discriminator's features.

Heads alone hardly ask for it: they see whether a picture looks real and fits its caption, and what one
artist's drawing differs by from another's is little beside that. So a generated picture must be known by the
real one that it was told of, among the others of the batch (van den Oord et al. 2018, "Representation
Learning with Contrastive Predictive Coding", section 2.3; not in the papers of this framework).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.objectives.averaged import averaged

TEMPERATURE = 0.1
"""Of the cosines that the softmax compares."""
_TINY = 1e-6
"""Keeps features that are the same in all images from dividing by zero."""
_USUAL = 0.01
"""Features no farther than this from the mean picture's have no direction; usual ones have a length of 1."""


def following_loss(features: list[object], shown: list[object], told: Tensor) -> Tensor:
    """Mean cross-entropy of finding the picture that each generated one was told of.

    features, shown: per frozen network maps [N, C, ...], nested, of N generated and of N real pictures.
    told: bool [N], True for those that were told of the real picture in their place; at least one. Maps are
    averaged over their places, so that neither place nor side counts, in units of what real pictures differ
    by. Returns a float32 scalar, log N where nothing is followed.
    """
    aims = told.nonzero()[:, 0]
    terms = []
    for made, real in zip(features, shown, strict=True):
        pairs = [_in_units(a, b) for a, b in zip(averaged(made), averaged(real), strict=True)]
        own, others = (
            F.normalize(torch.cat(side, dim=1), dim=1, eps=_USUAL) for side in zip(*pairs, strict=True)
        )
        terms.append(F.cross_entropy(own[aims] @ others.T / TEMPERATURE, aims))
    return torch.stack(terms).mean()


def _in_units(made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Features [N, C] less the mean of real ones, in units of their spread; each map counts the same."""
    units = (real.std(0, correction=0) + _TINY) * real.shape[1] ** 0.5
    return (made - real.mean(0)) / units, (real - real.mean(0)) / units
