"""The roof over every figure: how fast this machine multiplies matrices and copies memory."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch

from sgxl_t.ops.gemm import products

from .timing import loops_for, quartiles, timed

SHORTEST = 50.0
"""Milliseconds of one measurement."""
REPEATS = 5


class Roof(NamedTuple):
    """GFLOP/s of a matrix product, by torch's faster library, and GB/s of a copy, both ways counted."""

    gemm: float
    copy: float


def measure_roof(dtype: torch.dtype, device: torch.device, clock: str, *, small: bool = False) -> Roof:
    """Measures both with the clock of the rows beside them; small: a tenth of the work."""
    side, mebibytes = (512, 16) if small else (1024, 128)
    if device.type == "cuda":
        side, mebibytes = 8192, 4096
    weight = torch.randn(side, 2 * side, device=device).to(dtype)
    columns = torch.randn(2 * side, side, device=device).to(dtype)
    product = torch.empty(side, side, dtype=dtype, device=device)
    # The same product by another library, which is twice as fast on some processors.
    first, second = weight[None], columns.T.contiguous()[None]
    source = torch.ones(mebibytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    with torch.inference_mode():
        gemm = min(
            _median(lambda: torch.mm(weight, columns, out=product), clock),
            _median(lambda: products(first, second), clock),
        )
    copy = _median(lambda: target.copy_(source), clock)
    return Roof(4 * side**3 / gemm / 1e6, 2 * source.nbytes / copy / 1e6)


def _median(run: object, clock: str) -> float:
    assert callable(run)
    loops = loops_for(min(timed(run, clock) for _ in range(2)), SHORTEST)
    return quartiles([timed(run, clock, loops) for _ in range(REPEATS)]).median


def load() -> float:
    """Processes that wanted a core in the last minute; 0 where the system does not tell."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0
