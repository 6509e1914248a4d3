"""CUDA graphs: all kernels of a call launched as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

WARM_UP = 3
"""Calls before the capture, in which caches are filled and libraries choose their algorithms."""


class CapturedCall(Generic[Result]):
    """A call without arguments, captured when this is made; its result lies in the same memory every time."""

    def __init__(self, run: Callable[[], Result]) -> None:
        """run: works on tensors of one GPU that stay where they are and keeps them from being freed."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = run()

    def __call__(self) -> Result:
        """Computes it again from what the tensors hold now."""
        self._graph.replay()
        return self._result


def leaves(value: Any) -> list[Tensor]:
    """The tensors in nested tuples, in order."""
    if isinstance(value, Tensor):
        return [value]
    return [] if value is None else [leaf for part in value for leaf in leaves(part)]


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Nested (named) tuples with every tensor changed."""
    if value is None or isinstance(value, Tensor):
        return None if value is None else change(value)
    parts = [mapped(part, change) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
