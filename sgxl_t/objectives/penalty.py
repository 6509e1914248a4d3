"""Gradient penalty at real and generated images, R1 and R2 (Mescheder et al. 2018; Huang et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sgxl_t.networks.layers import full_precision

NestedTensors = list[list[Tensor]]
"""Per feature network a list of tensors [N, ...]."""


@contextmanager
def twice_differentiable(device: torch.device) -> Iterator[None]:
    """Float32, as half precision loses slopes, and plain attention: fused ones have no second derivative."""
    with full_precision(device), sdpa_kernel(SDPBackend.MATH):
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
