"""Values computed from weights that do not change, kept between calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_SAMPLES = 256

Used = dict[int, Tensor]
"""Kept values by their identity."""

_fixed: ContextVar[Used | None] = ContextVar("fixed", default=None)


class _Entry(NamedTuple):
    """What told the weight apart when `value` was made: version, address and some of its elements.

    The elements of a weight on another device than the CPU are not looked at.
    """

    version: int
    address: int
    samples: Tensor | None
    value: Tensor


@contextmanager
def fixed_weights() -> Iterator[Used]:
    """Inside the block, in this thread, no weight changes unless torch counts it; so values are kept on every
    device, and more of them.

    Counted are changes in place and other memory (`load_state_dict`, optimisers), not writes through
    `weight.data`, which only a CPU notices. Gives the values used in the block, and in those inside it; who
    keeps them for longer than their weights live, or `clear` is called, holds on to it.
    """
    outer = _fixed.get()
    used: Used = {} if outer is None else outer
    token = _fixed.set(used)
    try:
        yield used
    finally:
        _fixed.reset(token)


def fixed() -> bool:
    """Whether a surrounding `fixed_weights` of this thread holds."""
    return not torch.compiler.is_compiling() and _fixed.get() is not None


def frozen(weight: Tensor) -> bool:
    """Whether values made from a weight may be kept: on a CPU, when its gradients are not recorded.

    Elsewhere a look at its elements would wait for the device, so somebody has to say that it does not change
    (`fixed_weights`); tensors of other classes may have none.
    """
    if torch.compiler.is_compiling() or type(weight) not in (Tensor, torch.nn.Parameter):
        return False
    recorded = torch.is_grad_enabled() and weight.requires_grad
    known = weight.device.type == "cpu" or fixed()
    return known and not recorded and not weight.is_inference()


class FrozenCache:
    """`make(weight)` for frozen weights, made once and kept for as long as the weight lives unchanged.

    Changes in place raise a tensor's version; sharded training fills weights without that, so some elements
    are compared too: a step of an optimiser moves all of them.
    """

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        self._make = make
        self._entries: MutableMapping[Tensor, _Entry] = WeakTensorKeyDictionary()

    def __len__(self) -> int:
        """Weights that something is kept for."""
        return len(self._entries)

    def __call__(self, weight: Tensor) -> Tensor:
        """The value for a weight; computed anew, with gradients where recorded, if it is not frozen."""
        if not frozen(weight):
            return self._make(weight)
        entry = self._entries.get(weight)
        with torch.inference_mode(False), torch.no_grad():
            data = weight.detach()
            samples = _samples(data) if data.device.type == "cpu" else None
            if entry is None or not _unchanged(entry, weight, samples):
                kept = None if samples is None else samples.clone()
                entry = _Entry(weight._version, weight.data_ptr(), kept, self._make(data))
                self._entries[weight] = entry
        used = _fixed.get()
        if used is not None:
            used[id(entry.value)] = entry.value
        return entry.value

    def clear(self) -> None:
        """Frees everything."""
        self._entries.clear()


def _samples(data: Tensor) -> Tensor:
    """Some elements, spread over all of a weight; a view."""
    flat = data.flatten() if data.is_contiguous() else data[:, 0].flatten()
    return flat[:: max(len(flat) // _SAMPLES, 1)]


def _unchanged(entry: _Entry, weight: Tensor, samples: Tensor | None) -> bool:
    """Whether the weight is still what the entry was made from."""
    if (entry.version, entry.address) != (weight._version, weight.data_ptr()):
        return False
    if samples is None or entry.samples is None:
        return samples is entry.samples
    return torch.equal(entry.samples, samples)
