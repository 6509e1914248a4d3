"""CUDA graphs: all kernels of a call launched as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

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
