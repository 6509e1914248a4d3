"""Hinge losses on the logits of one or several feature networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def hinge_d_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Hinge loss of the discriminator (Lim & Ye 2017, "Geometric GAN"; StyleGAN-XL, StyleGAN-T).

    real, fake: one tensor of unbounded logits [N, P] per feature network, P all head outputs of one image.
    Returns a float32 scalar: sum over networks of the mean over images and logits of relu(1 - real) plus
    that of relu(1 + fake). Raises ValueError when the lists are empty or differ in length.
    """
    if not real or len(real) != len(fake):
        raise ValueError(
            f"{len(real)} real and {len(fake)} fake logit tensors were given: "
            "pass one of each per feature network, and at least one"
        )
    terms = [
        F.relu(1.0 - r.float()).mean() + F.relu(1.0 + f.float()).mean()
        for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).sum()


def hinge_g_loss(fake: Sequence[Tensor]) -> Tensor:
    """Hinge loss of the generator: sum over networks of the mean of -logit over images and logits.

    fake: one tensor of logits [N, P] per feature network. Returns a float32 scalar.
    Raises ValueError when the list is empty.
    """
    if not fake:
        raise ValueError("no logits were given: pass one tensor per feature network, and at least one")
    return torch.stack([-f.float().mean() for f in fake]).sum()


def mean_logit(logits: Sequence[Tensor]) -> Tensor:
    """Mean over all logits of all networks, detached: the reported score."""
    return torch.cat([tensor.detach().float().flatten() for tensor in logits]).mean()


def mean_sign(logits: Sequence[Tensor]) -> Tensor:
    """Mean sign of all logits, detached, in [-1, 1]: how surely the discriminator tells the side."""
    return torch.cat([tensor.detach().float().sign().flatten() for tensor in logits]).mean()
