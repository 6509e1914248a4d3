"""The roof over every figure: how fast this machine multiplies matrices and copies memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import torch

from sgxl_t.bench.timing import loops_for, quartiles, timed
from sgxl_t.ops.conv.gemm import products

SHORTEST = 50.0
"""Milliseconds of one measurement."""
REPEATS = 5


class Roof(NamedTuple):
    """GFLOP/s of a matrix product, by torch's faster library, and GB/s of a copy, both ways counted."""

    gemm: float
    copy: float


class Product(NamedTuple):
    """A matrix product to be timed, and its arithmetic in GFLOP."""

    run: Callable[[], object]
    gflop: float


def matrix_product(dtype: torch.dtype, device: torch.device, clock: str, *, small: bool = False) -> Product:
    """The product by torch's faster library here: one is twice as fast as the other on some processors."""
    side = 8192 if device.type == "cuda" else 512 if small else 1024
    weight = torch.randn(side, 2 * side, device=device).to(dtype)
    columns = torch.randn(2 * side, side, device=device).to(dtype)
    target = torch.empty(side, side, dtype=dtype, device=device)
    first, second = weight[None], columns.T.contiguous()[None]

    def by_torch() -> None:
        with torch.inference_mode():
            torch.mm(weight, columns, out=target)

    def by_convolutions() -> None:
        with torch.inference_mode():
            products(first, second)

    calls = (by_torch, by_convolutions)
    return Product(min(calls, key=lambda run: _median(run, clock)), 4 * side**3 / 1e9)


def measure_roof(dtype: torch.dtype, device: torch.device, clock: str, *, small: bool = False) -> Roof:
    """Measures both with the clock of the rows beside them; small: a tenth of the work."""
    mebibytes = 4096 if device.type == "cuda" else 16 if small else 128
    product = matrix_product(dtype, device, clock, small=small)
    source = torch.ones(mebibytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    copy = _median(lambda: target.copy_(source), clock)
    return Roof(product.gflop * 1000 / _median(product.run, clock), 2 * source.nbytes / copy / 1e6)


def _median(run: Callable[[], object], clock: str) -> float:
    loops = loops_for(min(timed(run, clock) for _ in range(2)), SHORTEST)
    return quartiles([timed(run, clock, loops) for _ in range(REPEATS)]).median


def load() -> float:
    """Processes that wanted a core in the last minute; 0 where the system does not tell."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0


def device_name(device: str) -> str:
    """What the rows call the device."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
