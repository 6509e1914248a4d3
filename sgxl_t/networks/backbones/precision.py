"""In which precision frozen networks read images: as the launch computes, or as the configuration says.

Decided by what was measured (docs/backbones.md), and alike in every phase, so that real and generated images
are seen through the same network.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sgxl_t.ops.device_kind import is_cpu

Precision = Literal["auto", "fp32", "bf16"]
"""auto: as the launch, where that does not lose; fp32: never lowered; bf16: also in a float32 launch."""

_in_float32: ContextVar[bool] = ContextVar("in_float32", default=False)


@contextmanager
def float32_backbones() -> Iterator[None]:
    """Inside, no frozen network lowers its precision, whatever it was told: for derivatives of slopes."""
    token = _in_float32.set(True)
    try:
        yield
    finally:
        _in_float32.reset(token)


@contextmanager
def reading(precision: Precision, device: torch.device, *, depthwise: bool = False) -> Iterator[None]:
    """Context in which a frozen network computes on a device as `precision` says.

    depthwise: the network has grouped convolutions, so `auto` keeps float32 on a CPU: half of its work stays
    there anyway, and its gradients lose most. Where the device knows no autocast, nothing changes.
    """
    kind = device.type
    if not torch.amp.is_autocast_available(kind):
        yield
        return
    with ExitStack() as contexts:
        if precision == "bf16":
            contexts.enter_context(torch.autocast(kind, dtype=torch.bfloat16))
        loses = is_cpu(device) and (depthwise or not cpu_multiplies_bf16())
        if precision == "fp32" or (precision == "auto" and loses) or _in_float32.get():
            contexts.enter_context(torch.autocast(kind, enabled=False))
        if is_cpu(device) and torch.is_autocast_enabled(kind):
            contexts.enter_context(SlowInHalfOnCpu())
        yield


class SlowInHalfOnCpu(TorchFunctionMode):
    """Inside, what a CPU does more slowly in half precision is done in float32 all the same.

    These are attention, which there and back takes 1.6 to 3.7 times as long in bfloat16, and grouped
    (depthwise) convolutions, for their backward pass (docs/backbones.md). Results come back in the type that
    autocast asks for. The attention inside of `nn.MultiheadAttention` is out of reach.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _is_slow(func, args, kwargs):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            result = func(*map(_wide, args), **{key: _wide(value) for key, value in kwargs.items()})
        return result.to(torch.get_autocast_dtype("cpu"))


def _is_slow(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if not args or not isinstance(args[0], Tensor) or args[0].dtype == torch.float64:
        return False  # autocast leaves float64 alone
    if func is F.scaled_dot_product_attention:
        return True
    groups = kwargs.get("groups", args[6] if len(args) > 6 else 1)
    return func is F.conv2d and groups > 1


def _wide(value: Any) -> Any:
    """A floating point tensor in float32; anything else as it is."""
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def as_outside(features: Tensor, images: Tensor) -> Tensor:
    """Features in the type that what follows computes in: that of the images, unless autocast sees to it."""
    kind = images.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return features
    return features.to(torch.promote_types(features.dtype, images.dtype))


@cache
def cpu_multiplies_bf16() -> bool:
    """Whether the processor has instructions for bfloat16 products; true where torch cannot tell."""
    known = _checked()
    return not known or any(known)


@cache
def cpu_gains_by_bf16() -> bool:
    """Whether it is known to have them, so that training in bfloat16 is faster (docs/training.md)."""
    return any(_checked())


def _checked() -> list[bool]:
    """What torch says of each kind of such instructions; empty where it cannot tell."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return []
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return [check() for name in names if (check := getattr(torch.cpu, name, None)) is not None]
