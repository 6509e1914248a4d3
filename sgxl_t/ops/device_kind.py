"""Whether operations work as on a CPU: an estimate of a GPU's memory runs on a CPU as if it were one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_as_gpu = False


def is_cpu(device: torch.device) -> bool:
    """Whether an operation on this device takes a CPU's ways."""
    return device.type == "cpu" and not _as_gpu


@contextmanager
def as_on_gpu(chosen: bool = True) -> Iterator[None]:
    """Inside, the whole process takes a GPU's ways on a CPU as well, where there are two; chosen: whether."""
    global _as_gpu
    before, _as_gpu = _as_gpu, chosen
    try:
        yield
    finally:
        _as_gpu = before
