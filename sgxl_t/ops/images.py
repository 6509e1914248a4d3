"""Bytes to floats and back, gray images to RGB and back."""

from __future__ import annotations

import torch
from torch import Tensor


def as_rgb(x: Tensor) -> Tensor:
    """x [N, C, H, W] with three channels [N, 3, H, W]; a gray channel is repeated without a copy."""
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x


def to_gray(x: Tensor) -> Tensor:
    """x uint8 [..., 3, H, W] to its brightness, uint8 [..., 1, H, W]: .299 R + .587 G + .114 B (ITU-R 601).

    Rounded as in Pillow's mode L, so gray images stored in colour keep their values.
    """
    red, green, blue = x.int().unbind(-3)
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000 >> 16).to(torch.uint8).unsqueeze(-3)


def to_uint8(x: Tensor) -> Tensor:
    """x in [-1, 1], any shape, to uint8: 127.5 x + 128, clipped to [0, 255] and truncated."""
    return (x.float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def from_uint8(x: Tensor) -> Tensor:
    """uint8 x of any shape to float32 in [-1, 1]: x / 127.5 - 1; ValueError for another dtype."""
    if x.dtype != torch.uint8:
        raise ValueError(f"pixels of type {x.dtype} are no bytes: give torch.uint8 in [0, 255]")
    return x.float() / 127.5 - 1
