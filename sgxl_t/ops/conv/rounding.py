"""Weights in half precision."""

from __future__ import annotations

import torch
from torch import Tensor

from sgxl_t.ops.conv.frozen import FrozenCache, frozen


def rounded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """weight [O, I, k, k] in `dtype`, itself where it has that; gradients pass as through `to`.

    Weights that do not learn are rounded once, and so that the errors of a kernel's taps cancel: maps are
    smooth, so what counts is the sum of the errors. Over a generator of 11 layers this leaves a third to a
    half of the error of rounding each tap by itself.
    """
    cache = _CACHES.get(dtype)
    if weight.dtype == dtype or cache is None or not frozen(weight):
        return weight.to(dtype)
    return cache(weight)


def _carried(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounds tap by tap and gives what was lost to the next one."""
    taps = weight.flatten(2)
    lost, result = torch.zeros_like(taps[..., 0]), torch.empty_like(taps, dtype=dtype)
    for number in range(taps.shape[2]):
        wanted = taps[..., number] + lost
        result[..., number] = wanted
        lost = wanted - result[..., number].to(wanted.dtype)
    return result.view_as(weight)


_CACHES = {
    torch.bfloat16: FrozenCache(lambda weight: _carried(weight, torch.bfloat16)),
    torch.float16: FrozenCache(lambda weight: _carried(weight, torch.float16)),
}
