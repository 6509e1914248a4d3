"""Adversarial losses on the logits of one or several feature networks: hinge, and relativistic pairing."""

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


def relativistic_loss(better: Sequence[Tensor], worse: Sequence[Tensor]) -> Tensor:
    """Relativistic pairing loss softplus(worse - better) (Jolicoeur-Martineau 2019; Huang et al. 2024).

    It falls as the logits of `better` rise above those of `worse`, pair by pair: the discriminator passes
    (real, fake), the generator (fake, real).
    better, worse: one tensor of unbounded logits [N, P] per feature network; row n of both is one pair under
    one condition. Returns a float32 scalar: sum over networks of the mean over pairs and logits.
    ValueError when the lists are empty or differ in length or shape.
    """
    shapes = [[tuple(tensor.shape) for tensor in logits] for logits in (better, worse)]
    if not better or shapes[0] != shapes[1]:
        raise ValueError(
            f"logits of shapes {shapes[0]} and {shapes[1]} make no pairs: pass equally many real and "
            "generated images, and at least one feature network"
        )
    terms = [F.softplus(wide(w) - wide(b)).mean() for b, w in zip(better, worse, strict=True)]
    return torch.stack(terms).sum()


def wide(logits: Tensor) -> Tensor:
    """Logits of any shape in float32; float64 stays."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def mean_logit(logits: Sequence[Tensor]) -> Tensor:
    """Mean over all logits of all networks, a detached float32 scalar: the reported score."""
    return torch.cat([tensor.detach().float().flatten() for tensor in logits]).mean()


def mean_sign(logits: Sequence[Tensor]) -> Tensor:
    """Mean sign of all logits, detached, in [-1, 1]: near 1 for real and -1 for generated images when the
    discriminator tells them apart."""
    return torch.cat([tensor.detach().float().sign().flatten() for tensor in logits]).mean()
