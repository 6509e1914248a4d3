"""Memory of one run: what the backward pass keeps, and the peak."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

MIB = 2**20


class Memory(NamedTuple):
    """MiB: what is saved for the backward pass, weights excluded; peak above what was there before."""

    saved: float
    peak: float


def measure_memory(
    run: Callable[[AbstractContextManager[Any]], Any], constants: Iterable[Tensor], device: torch.device
) -> tuple[Any, Memory]:
    """Result of `run` and its memory. constants: weights and buffers of any shape, which are not counted.

    run: gets the context in which to run the forward pass; what the backward pass keeps for itself is not
    held between the two.
    """
    excluded = {_storage(tensor) for tensor in constants}
    # By address, which no other tensor has as long as the graph lives. Kept alive from here they would add
    # to the peak, since the backward pass could free none.
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in excluded:
            sizes[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    result, peak = _with_peak(lambda: run(hooks), device)
    return result, Memory(sum(sizes.values()) / MIB, peak)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _with_peak(run: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """On a CPU the profiler sees every allocation of torch; a GPU's allocator keeps the peak itself."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = run()
        torch.cuda.synchronize()
        return result, (torch.cuda.max_memory_allocated() - before) / MIB
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would write its own life onto the terminal
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        result = run()
    return result, _peak_of(seen) / MIB


def _peak_of(seen: Any) -> int:
    """Largest sum of allocations minus releases, in bytes."""
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
