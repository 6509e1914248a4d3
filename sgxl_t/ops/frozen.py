"""Values computed from weights that do not change, kept between calls."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_SAMPLES = 256


class _Entry(NamedTuple):
    """What told the weight apart when `value` was made: version, address and some of its elements."""

    version: int
    address: int
    samples: Tensor
    value: Tensor


def frozen(weight: Tensor) -> bool:
    """Whether values made from a weight may be kept: on a CPU, when its gradients are not recorded.

    Elsewhere a look at its elements would wait for the device; tensors of other classes may have none.
    """
    if torch.compiler.is_compiling() or type(weight) not in (Tensor, torch.nn.Parameter):
        return False
    recorded = torch.is_grad_enabled() and weight.requires_grad
    return weight.device.type == "cpu" and not recorded and not weight.is_inference()


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
            flat = data.flatten() if data.is_contiguous() else data[:, 0].flatten()
            samples = flat[:: max(len(flat) // _SAMPLES, 1)]
            if (
                entry is None
                or (entry.version, entry.address) != (weight._version, weight.data_ptr())
                or not torch.equal(entry.samples, samples)
            ):
                entry = _Entry(weight._version, weight.data_ptr(), samples.clone(), self._make(data))
                self._entries[weight] = entry
        return entry.value

    def clear(self) -> None:
        """Frees everything."""
        self._entries.clear()
