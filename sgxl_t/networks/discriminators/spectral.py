"""Convolutions whose weight is divided by its largest singular value.

Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks". The classic form with stored
vectors and its names `weight_orig`, `weight_u` and `weight_v`, because published discriminators store exactly
these tensors and `torch.nn.utils.parametrizations` names them differently.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-12


def spectral_weight(weight: Tensor, u: Tensor, v: Tensor, *, update: bool) -> Tensor:
    """`weight` [O, ...] divided by the estimate u' W v of its spectral norm, W being `weight` as [O, rest].

    u [O] and v [rest] are unit vectors; with `update` they first take one step of power iteration, in place.
    Gradients of any order reach `weight` through the numerator and the norm; u and v count as constants. The
    graph never holds the stored vectors themselves, so several forwards may precede one backward.
    """
    with torch.autocast(weight.device.type, enabled=False):
        matrix = weight.flatten(1)
        with torch.no_grad():
            if update:
                new_v = F.normalize(torch.mv(matrix.t(), u), dim=0, eps=EPS)
                new_u = F.normalize(torch.mv(matrix, new_v), dim=0, eps=EPS)
                v.copy_(new_v)
                u.copy_(new_u)
            else:
                new_u, new_v = u.clone(), v.clone()
        return weight / torch.dot(new_u, torch.mv(matrix, new_v))


class _SpectralConv(nn.Module):
    """Shared part of the one- and two-dimensional layer."""

    dims: ClassVar[int]
    weight_u: Tensor
    weight_v: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        padding_mode: Literal["zeros", "circular"] = "zeros",
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.padding_mode = stride, padding, padding_mode
        kernel = (kernel_size,) * self.dims
        fan_in = in_channels * math.prod(kernel)
        bound = 1 / math.sqrt(fan_in)  # the default of nn.Conv2d, for weight and bias alike
        self.weight_orig = nn.Parameter(
            torch.empty(out_channels, in_channels, *kernel).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound)) if bias else None
        self.register_buffer("weight_u", F.normalize(torch.randn(out_channels), dim=0, eps=EPS))
        self.register_buffer("weight_v", F.normalize(torch.randn(fan_in), dim=0, eps=EPS))

    def extra_repr(self) -> str:
        shape = "x".join(str(size) for size in self.weight_orig.shape)
        return f"{shape}, stride={self.stride}, padding={self.padding}, padding_mode={self.padding_mode}"

    def normalised_weight(self) -> Tensor:
        """The weight in use; one step of power iteration in training mode."""
        return spectral_weight(self.weight_orig, self.weight_u, self.weight_v, update=self.training)

    def _padded(self, x: Tensor) -> tuple[Tensor, int]:
        """Input and the padding left for the convolution itself."""
        if self.padding_mode == "zeros" or self.padding == 0:
            return x, self.padding
        return F.pad(x, [self.padding] * (2 * self.dims), mode="circular"), 0


class SpectralConv1d(_SpectralConv):
    """Spectrally normalised convolution over one dimension; arguments as in `nn.Conv1d`.

    Each forward in training mode takes one step of power iteration; eval mode uses the vectors as stored.
    """

    dims = 1

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, L] -> [N, O, L']."""
        x, padding = self._padded(x)
        return F.conv1d(x, self.normalised_weight(), self.bias, self.stride, padding)


class SpectralConv2d(_SpectralConv):
    """Spectrally normalised convolution over two dimensions, square kernel; arguments as in `nn.Conv2d`.

    Each forward in training mode takes one step of power iteration; eval mode uses the vectors as stored.
    A map that is smaller than the kernel is filled up with zeros, so it gives one value: networks whose
    images are no power of two leave such maps.
    """

    dims = 2

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, O, H', W']."""
        x, padding = self._padded(x)
        short = [self.weight_orig.shape[-1] - side - 2 * padding for side in x.shape[-2:]]
        if max(short) > 0:
            x = F.pad(x, [0, max(short[1], 0), 0, max(short[0], 0)])
        return F.conv2d(x, self.normalised_weight(), self.bias, self.stride, padding)
