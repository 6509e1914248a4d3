"""Bias, activation, gain and clamp in one call."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class _Activation(NamedTuple):
    """Function of (x, alpha), default slope and the gain that keeps the variance of a unit normal about 1."""

    call: Callable[[Tensor, float], Tensor]
    alpha: float
    gain: float


_ACTIVATIONS: dict[str, _Activation] = {
    "linear": _Activation(lambda x, _: x, 0.0, 1.0),
    "relu": _Activation(lambda x, _: F.relu(x), 0.0, math.sqrt(2)),
    "lrelu": _Activation(lambda x, alpha: F.leaky_relu(x, alpha), 0.2, math.sqrt(2)),
    "tanh": _Activation(lambda x, _: torch.tanh(x), 0.0, 1.0),
    "sigmoid": _Activation(lambda x, _: torch.sigmoid(x), 0.0, 1.0),
    "elu": _Activation(lambda x, _: F.elu(x), 0.0, 1.0),
    "selu": _Activation(lambda x, _: F.selu(x), 0.0, 1.0),
    "softplus": _Activation(lambda x, _: F.softplus(x), 0.0, 1.0),
    "swish": _Activation(lambda x, _: F.silu(x), 0.0, math.sqrt(2)),
}


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    *,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    dim: int = 1,
    inplace: bool = False,
) -> Tensor:
    """clamp(gain * act(x + b), -clamp, clamp), of the shape and dtype of x.

    x: any shape. b: [x.shape[dim]], added along axis `dim`. act: linear, relu, lrelu, tanh, sigmoid, elu,
    selu, softplus or swish. alpha: slope of lrelu (default 0.2). gain: default sqrt(2) for relu, lrelu and
    swish, 1 otherwise. clamp: limit after the gain; None disables. inplace: x may be overwritten (lrelu).
    ValueError for an unknown act, a bias that does not fit or a negative clamp. (Karras et al. 2020,
    "Analyzing and Improving the Image Quality of StyleGAN", appendix B.)
    """
    if act not in _ACTIVATIONS:
        raise ValueError(f"act={act!r} is unknown: use one of {', '.join(_ACTIVATIONS)}")
    if clamp is not None and clamp < 0:
        raise ValueError(f"clamp={clamp} must not be negative: use None to disable it")
    kind = _ACTIVATIONS[act]
    if b is not None:
        if not -x.ndim <= dim < x.ndim or b.ndim != 1 or b.shape[0] != x.shape[dim]:
            raise ValueError(
                f"bias of shape {tuple(b.shape)} does not fit axis {dim} of {tuple(x.shape)}: one value each"
            )
        shape = [1] * x.ndim
        shape[dim] = -1
        x = x + b.to(x.dtype).reshape(shape)
    alpha = kind.alpha if alpha is None else alpha
    x = F.leaky_relu(x, alpha, inplace=True) if inplace and act == "lrelu" else kind.call(x, alpha)
    gain = kind.gain if gain is None else gain
    if gain != 1:
        x = x * gain
    # The gradient of hardtanh takes one pass, that of clamp four; it needs hardtanh's input, hence `free`.
    free = inplace and not torch.is_grad_enabled()
    return x if clamp is None else F.hardtanh(x, -clamp, clamp, inplace=free)
