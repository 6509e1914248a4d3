"""Caches of values computed from weights that do not change."""

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
"""Cached values by their id."""

_fixed: ContextVar[Used | None] = ContextVar("fixed", default=None)


class _Entry(NamedTuple):
    """A cached value, and what shows whether its weight has changed: version, address and some elements.

    samples: None for a weight that is not on the CPU, as reading it would wait for the device.
    """

    version: int
    address: int
    samples: Tensor | None
    value: Tensor


@contextmanager
def fixed_weights() -> Iterator[Used]:
    """Promises that inside the block, in this thread, weights change only in ways that torch counts.

    Values are then cached on every device. torch counts changes in place and new memory (`load_state_dict`,
    optimisers), not writes through `weight.data`, which are noticed on a CPU only. Yields the values used in
    the block and in blocks inside it; a reference to them keeps their memory even after `clear`.
    """
    outer = _fixed.get()
    used: Used = {} if outer is None else outer
    token = _fixed.set(used)
    try:
        yield used
    finally:
        _fixed.reset(token)


def fixed() -> bool:
    """Whether this thread is inside a `fixed_weights` block."""
    return not torch.compiler.is_compiling() and _fixed.get() is not None


def frozen(weight: Tensor) -> bool:
    """Whether values made from a weight may be cached: on a CPU, when its gradients are not recorded.

    On other devices comparing elements would wait for the device, so the caller has to promise that weights
    do not change (`fixed_weights`). Tensor subclasses, such as sharded ones, are never cached.
    """
    if torch.compiler.is_compiling() or type(weight) not in (Tensor, torch.nn.Parameter):
        return False
    recorded = torch.is_grad_enabled() and weight.requires_grad
    known = weight.device.type == "cpu" or fixed()
    return known and not recorded and not weight.is_inference()


class FrozenCache:
    """Caches `make(weight)` of frozen weights for as long as the weight lives unchanged.

    Changes in place raise a tensor's version. Sharded training fills weights without raising it, so some
    elements are compared too; an optimiser's step moves all of them.
    """

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        self._make = make
        self._entries: MutableMapping[Tensor, _Entry] = WeakTensorKeyDictionary()

    def __len__(self) -> int:
        """Number of weights with a cached value."""
        return len(self._entries)

    def __call__(self, weight: Tensor) -> Tensor:
        """The value for a weight; a weight that is not frozen is computed anew, with its gradients."""
        if not frozen(weight):
            return self._make(weight)
        entry = self._entries.get(weight)
        with torch.inference_mode(False), torch.no_grad():
            data = weight.detach()
            samples = _samples(data) if data.device.type == "cpu" else None
            if entry is None or not _unchanged(entry, weight, samples):
                samples = None if samples is None else samples.clone()
                entry = _Entry(weight._version, weight.data_ptr(), samples, self._make(data))
                self._entries[weight] = entry
        used = _fixed.get()
        if used is not None:
            used[id(entry.value)] = entry.value
        return entry.value

    def clear(self) -> None:
        """Empties the cache."""
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
