"""Small layers shared by every network: equalised fully connected layer and second-moment normalisation."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgxl_t.ops.bias_act import bias_act


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Context in which autocast is off, for the small parts where half precision costs more than it saves."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def normalize_2nd_moment(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Scales every row of x [N, C] to unit mean square; eps keeps a row of zeros finite."""
    return x * (x.square().mean(dim=1, keepdim=True) + eps).rsqrt()


class FullyConnected(nn.Module):
    """Fully connected layer with equalised learning rate (Karras et al. 2018, section 4.1).

    The stored weight has unit scale and `lr_multiplier / sqrt(in)` enters at run time, so layers learn at one
    pace. Always computes in float32 or wider, also under autocast: styles scale whole feature maps.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        act: Literal["linear", "lrelu"] = "linear",
        lr_multiplier: float = 1.0,
        weight_init: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        """weight_init: first standard deviation, bias_init: first value; both as seen at run time."""
        super().__init__()
        self.act = act
        self.weight = nn.Parameter(torch.randn(out_features, in_features) * (weight_init / lr_multiplier))
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier)) if bias else None
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in_features] -> [..., out_features], float32 (float64 stays float64)."""
        with full_precision(x.device):
            dtype = torch.promote_types(x.dtype, torch.float32)
            # A product with a scaled weight would keep that copy for its gradient.
            y = F.linear(x.to(dtype), self.weight.to(dtype)) * self.weight_gain
            bias = None if self.bias is None else self.bias.to(dtype) * self.bias_gain
            return bias_act(y, bias, act=self.act, dim=-1)

    def extra_repr(self) -> str:
        """Sizes for print(module)."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, bias={self.bias is not None}, act={self.act}"
