"""Which backend the operators run on, chosen for a block of code or for the whole process.

Backends differ in speed, memory and rounding, not in what they compute. The default needs no compiler and
rounds least: direct convolution, band filters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

ConvBackend = Literal["direct", "winograd"]
FilterBackend = Literal["band", "compiled", "triton"]


@dataclass(frozen=True)
class Backend:
    """A backend for each kind of operator.

    conv: `winograd` computes 3x3 convolutions of stride 1 in float32 (largest error about 1e-5 of the largest
    result) with a quarter of the multiplications. filter: `compiled` and `triton` compute filtered leaky
    ReLUs without storing the activation's side of every sample; both need a compiler and fall back to `band`
    with a warning. always: use the chosen backend even where it was measured to be slower, as tests
    and benchmarks do. ValueError for unknown names.
    """

    conv: ConvBackend = "direct"
    filter: FilterBackend = "band"
    always: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("conv", self.conv, get_args(ConvBackend)),
            ("filter", self.filter, get_args(FilterBackend)),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is no known backend: use one of {', '.join(known)}")


_process = Backend()
_block: ContextVar[Backend | None] = ContextVar("backend", default=None)


def current() -> Backend:
    """The choice of the surrounding `use` of this thread, otherwise that of the process."""
    chosen = None if torch.compiler.is_compiling() else _block.get()
    return _process if chosen is None else chosen


@contextmanager
def use(
    conv: ConvBackend | None = None, filter: FilterBackend | None = None, always: bool | None = None
) -> Iterator[Backend]:
    """Changes the given fields inside a `with` block, in this thread (or task) only; blocks nest.

    Backward passes keep the backend of their forward pass wherever they run. Code that autograd runs again
    in a thread of its own (checkpointed layers on a GPU) sees the choice of the process: see `set_default`.
    """
    token = _block.set(_changed(current(), conv, filter, always))
    try:
        yield current()
    finally:
        _block.reset(token)


def set_default(
    conv: ConvBackend | None = None, filter: FilterBackend | None = None, always: bool | None = None
) -> Backend:
    """Changes the given fields for all threads of the process outside `use`; returns the choice before."""
    global _process
    before, _process = _process, _changed(_process, conv, filter, always)
    return before


def _changed(
    old: Backend, conv: ConvBackend | None, filter: FilterBackend | None, always: bool | None
) -> Backend:
    """`old` with the fields that are not None."""
    return replace(
        old,
        conv=old.conv if conv is None else conv,
        filter=old.filter if filter is None else filter,
        always=old.always if always is None else always,
    )


def conv_backend(x: Tensor, weight: Tensor) -> ConvBackend:
    """Backend for a convolution of stride 1 of x [N, I, H, W] with weight [O, I, k, k]."""
    choice = current()
    known = weight.shape[2:] == (3, 3) and x.dtype in (torch.float32, torch.float64)
    if choice.conv == "direct" or not known or _lowered(x):
        return "direct"
    return "winograd" if choice.always or _winograd_pays(x, weight) else "direct"


# Compiled filters against band filters on a CPU (one thread, float32; band time / compiled time, forward, and
# forward with backward): 1.6 and 1.4 at 38 -> 36 pixels, 1.6 and 1.6 at 86 -> 84, 2.2 and 1.3 at 150 -> 148,
# 1.5 and 1.8 with up-sampling by 4 at 38 pixels, 1.0 and 1.4 with 8 channels only. So they have no lower
# limit of size. Triton's kernels were checked, not timed.
def filter_backend(x: Tensor) -> FilterBackend:
    """Backend for a filtered leaky ReLU of x [N, C, H, W]."""
    choice, kind = current(), x.device.type
    if choice.filter == "band" or kind not in ("cpu", "cuda") or x.numel() == 0:
        return "band"
    if torch.compiler.is_compiling():
        return "band"
    if choice.filter == "triton" and kind == "cpu" and not choice.always:
        return "band"
    return choice.filter


# Winograd's convolution against the direct one on a CPU (AVX-512 of AMD, one thread, float32, medians of 7,
# whole modulated convolution, direct time / Winograd's time). Forward, transformed weight kept:
#   1024 channels: 1.4 at 10 pixels, 1.7 at 18, 1.5 to 1.8 at 36, 1.6 at 36 in batches of 4
#   512 channels: 0.96 at 16 pixels, 1.2 at 32; 256 channels: 0.95 at 32; 128 channels: 0.85 at 64
# Forward and backward with gradients of the weight:
#   1024 channels: 0.6 at 10 pixels, 0.8 at 18, 1.2 at 36, 1.8 at 36 in batches of 4
#   512 channels: 0.45 at 16 pixels, 0.9 at 32, 1.25 at 64; 256 channels: 1.2 at 32, 1.0 at 128
#   128 channels: 1.1 at 64, 0.5 at 256
# Rows are (channels from here on, tiles of 4x4 pixels in the batch from here on) where it wins. Other devices
# were not measured, so they keep the direct convolution.
_WINOGRAD_SAMPLING = ((768, 9), (512, 64))
_WINOGRAD_TRAINING = ((256, 80),)


def _winograd_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether Winograd's convolution was measured to be faster."""
    if x.device.type != "cpu":
        return False
    channels, tiles = min(weight.shape[:2]), len(x) * (x.shape[2] // 4) * (x.shape[3] // 4)
    training = torch.is_grad_enabled() and weight.requires_grad
    rows = _WINOGRAD_TRAINING if training else _WINOGRAD_SAMPLING
    return any(channels >= width and tiles >= count for width, count in rows)


def _lowered(x: Tensor) -> bool:
    """Whether autocast wants convolutions of x in half precision."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
