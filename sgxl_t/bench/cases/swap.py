"""The reference network: the same modules with the same weights, run by the plain operators.

Only operators change: what a network does between them (a fused sum, a folded factor) stays as it is, so the
ratios credit nothing but the operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sgxl_t.networks.generators import layers_t, synthesis_xl
from sgxl_t.ops import reference
from sgxl_t.ops.conv.modulated_conv import ConvSpec
from sgxl_t.ops.resample import resample


def _modulated_conv_sg3(
    x: Tensor,
    weight: Tensor,
    s: Tensor,
    *,
    input_gain: Tensor | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Tensor:
    """The plain form wants one dtype, that of the product; mixed precision gives maps and weights of two."""
    x = x if dtype is None else x.to(dtype)
    gain = None if input_gain is None else input_gain.to(x.dtype)
    return reference.modulated_conv_sg3(x, weight.to(x.dtype), s.to(x.dtype), input_gain=gain, **options)


def _modulated_conv(x: Tensor, weight: Tensor, s: Tensor, *spec: ConvSpec, **options: Any) -> Tensor:
    """As above."""
    return reference.modulated_conv(x, weight.to(x.dtype), s.to(x.dtype), *spec, **options)


PLACES: tuple[tuple[ModuleType | type, str, Callable[..., Tensor]], ...] = (
    (synthesis_xl, "filtered_lrelu", reference.filtered_lrelu),
    (synthesis_xl.SynthesisLayer, "lrelu", reference.filtered_lrelu),
    (synthesis_xl, "modulated_conv_sg3", _modulated_conv_sg3),
    (layers_t, "modulated_conv", _modulated_conv),
    (resample, "upfirdn2d", reference.upfirdn2d),  # upsample2d calls it by this name
)
"""Where networks (and the workloads of single operators) look them up: module or class, name, plain form."""


@contextmanager
def reference_operators() -> Iterator[None]:
    """Inside, every network of this process runs on the plain operators; not for several threads."""
    with exchanged(PLACES):
        yield


@contextmanager
def exchanged(places: Iterable[tuple[ModuleType | type, str, Callable[..., Tensor]]]) -> Iterator[None]:
    """Context in which functions are replaced: per (module or class, name, the function to use instead).

    The function must keep the signature and shapes of the one it replaces.
    """
    places = list(places)
    originals = [(owner, name, vars(owner)[name]) for owner, name, _ in places]
    try:
        for owner, name, other in places:
            setattr(owner, name, staticmethod(other) if isinstance(owner, type) else other)
        yield
    finally:
        for owner, name, own in originals:
            setattr(owner, name, own)
