"""Backends by name: what the rows call `variant`."""

from __future__ import annotations

from functools import partial
from typing import get_args

import torch

from sgxl_t.bench.runner import Backend, GraphRunner, Runner
from sgxl_t.ops.backend import ConvBackend, FilterBackend, use

DEFAULT = "default"
CUDA_GRAPH = "cuda-graph"


def variants(device: torch.device) -> list[str]:
    """Names that this machine knows, `default` first: a backend of filter, convolution or both."""
    filters = [name for name in get_args(FilterBackend)[1:] if name != "triton" or device.type == "cuda"]
    both = [f"{name}+{conv}" for name in filters for conv in get_args(ConvBackend)[1:]]
    names = [DEFAULT, *get_args(ConvBackend)[1:], *filters, *both]
    return [*names, CUDA_GRAPH] if device.type == "cuda" else names


def variant_backend(name: str, *, always: bool) -> Backend:
    """Context of a variant. always: also where it is known to be slower, as an operator's row promises."""
    parts = name.split("+")
    conv = next((known for known in get_args(ConvBackend) if known in parts), None)
    filters = next((known for known in get_args(FilterBackend) if known in parts), None)
    return partial(use, conv=conv, filter=filters, always=always)


def obstacle(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the operators would silently use another backend than the variant's; None if they would not."""
    if "compiled" in name:
        from sgxl_t.ops.filtered_lrelu.compiled import available

        if not available(device):
            return f"there is no working compiler for {device.type}"
    if "triton" in name:
        from sgxl_t.ops.filtered_lrelu.triton_kernels import available as runs

        if not runs(torch.empty(1, dtype=dtype, device=device)):
            return f"triton has no kernel for {dtype} on {device.type}"
    return None


def runner_class(name: str, mode: str, dtype: str) -> type[Runner] | None:
    """What runs the variant; None where it would run as another one does."""
    if "winograd" in name and dtype != "float32":
        return None
    if name != CUDA_GRAPH:
        return Runner
    return GraphRunner if mode == "forward" else None
