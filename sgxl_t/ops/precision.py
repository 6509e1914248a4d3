"""Arithmetic that mixed precision must leave alone."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def own_precision(x: Tensor) -> AbstractContextManager[object]:
    """Context in which autocast does not lower the precision of operations on the device of x."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)
