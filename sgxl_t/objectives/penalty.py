"""Gradient penalty at real and generated images, R1 and R2 (Mescheder et al. 2018; Huang et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sgxl_t.networks.backbones.precision import float32_backbones
from sgxl_t.networks.conditioning import Conditioning, rows
from sgxl_t.networks.layers import full_precision

NestedTensors = list[list[Tensor]]
"""Per feature network a list of tensors [N, ...]."""


@contextmanager
def twice_differentiable(device: torch.device) -> Iterator[None]:
    """Float32, as half precision loses slopes, and plain attention: fused ones have no second derivative."""
    with full_precision(device), float32_backbones(), sdpa_kernel(SDPBackend.MATH):
        yield


def squared_slopes(images: Tensor, features: NestedTensors, slopes: NestedTensors) -> Tensor:
    """Squared length over its pixels of the gradient of every image's score, [N], not weighted.

    images: [N, C, H, W], the leaf that `features` were computed from, with their graph. slopes: of the scores
    on the features, with a graph to the heads (networks/slopes.py), through which the result is
    differentiable. Where layers tie the samples of a call together, a slope is of the call's summed scores.
    """
    outputs, directions = ([x for maps in nested for x in maps] for nested in (features, slopes))
    (gradient,) = torch.autograd.grad(outputs, images, directions, create_graph=True)
    return gradient.square().sum((1, 2, 3))


def read_with_slopes(
    heads: nn.Module,
    features: Callable[[Tensor], NestedTensors],
    images: tuple[Tensor, Tensor],
    conds: tuple[Conditioning, Conditioning],
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Logits of generated and of real images, and the squared slopes [M + N] of both.

    images, conds: of the generated and of the real side. One pass of the features serves both.
    """
    generated = len(images[0])
    leaf = torch.cat(images).detach().requires_grad_()
    with twice_differentiable(leaf.device):
        seen = features(leaf)
        fake, fake_slopes = heads(rows(seen, slice(generated)), conds[0], slopes=True)
        real, real_slopes = heads(rows(seen, slice(generated, None)), conds[1], slopes=True)
        slopes = [
            [torch.cat(pair) for pair in zip(*maps, strict=True)]
            for maps in zip(fake_slopes, real_slopes, strict=True)
        ]
        return fake, real, squared_slopes(leaf, seen, slopes)
