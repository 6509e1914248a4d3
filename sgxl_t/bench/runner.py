"""One side of a comparison: a workload in one dtype, one mode and with one backend."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from sgxl_t.bench.arithmetic import Work, count
from sgxl_t.bench.cases.workloads import Workload
from sgxl_t.bench.memory import Memory, measure_memory
from sgxl_t.bench.timing import timed
from sgxl_t.ops.conv.frozen import fixed_weights
from sgxl_t.sampling.fast.graphs import CapturedCall

Backend = Callable[[], AbstractContextManager[Any]]
WARM_UP = 10
"""Calls before a GPU is timed."""


class Runner:
    """Runs a workload.

    `mode` is forward, as sampling mode runs it (nothing recorded, values of weights kept), or
    forward_backward (gradients of all leaves).
    """

    def __init__(
        self,
        work: Workload,
        mode: str,
        dtype: torch.dtype,
        clock: str,
        backend: Backend = nullcontext,
    ) -> None:
        self.work, self.mode, self.dtype, self.clock = work, mode, dtype, clock
        self.backend = backend
        self.device = (work.maps + work.others)[0].device
        learns = mode == "forward_backward"
        inputs = [x.detach().to(dtype) for x in work.maps] + [x.detach() for x in work.others]
        self.inputs = [x.requires_grad_(learns and x.is_floating_point()) for x in inputs]
        self.leaves = [x for x in self.inputs if x.requires_grad]
        if learns:
            self.leaves += [weight.requires_grad_() for weight in work.weights]
        self._cotangent: Tensor | None = None
        self.watched_ms = 0.0
        """Milliseconds of the run whose memory was measured, which costs some by itself."""

    def run(self, watch: AbstractContextManager[Any] | None = None) -> list[Tensor]:
        """The result, or the gradients of sum(result * fixed noise), each in the shape of its leaf.

        watch: a context held during the forward pass.
        """
        with self.backend():
            if self.mode == "forward":
                with torch.inference_mode(), fixed_weights():
                    return [self._forward()]
            with watch or nullcontext():
                y = self._forward()
            if self._cotangent is None:
                stream = torch.Generator().manual_seed(9)
                self._cotangent = torch.randn(y.shape, generator=stream).to(y)
            slopes = torch.autograd.grad(y, self.leaves, self._cotangent, allow_unused=True)
            return [slope for slope in slopes if slope is not None]

    def outputs(self) -> list[Tensor]:
        """What `run` returns, in float32 and the same shapes."""
        return [x.float() for x in self.run()]

    def time(self, loops: int = 1) -> float:
        """Milliseconds of one run."""
        return timed(self.run, self.clock, loops)

    def warm_up(self) -> None:
        """Brings a GPU to its steady state; a CPU is in it after the runs before."""
        if self.device.type == "cuda":
            for _ in range(WARM_UP):
                self.run()

    def memory(self) -> tuple[list[Tensor], Memory]:
        """What `outputs` gives (same shapes), and memory of one run, whose time `watched_ms` keeps."""
        found: list[Tensor] = []

        def once(watch: AbstractContextManager[Any]) -> None:
            self.watched_ms = timed(lambda: found.extend(self.run(watch)), self.clock)

        _, memory = measure_memory(once, self.work.constants, self.device)
        return [x.float() for x in found], memory

    def work_done(self) -> Work:
        """Arithmetic of one run by the direct convolution (the backward pass counts twice the forward one),
        and what it has to move; counted in one more run unless the workload knows.
        """
        if self.work.known is None:
            with torch.no_grad():
                self.work.known = count(self._forward, self.work.network)
        known = self.work.known
        return known._replace(gflop=3 * known.gflop) if self.mode == "forward_backward" else known

    def _forward(self) -> Tensor:
        mixed = self.work.mixed and self.dtype != torch.float32
        context = torch.autocast(self.device.type, self.dtype) if mixed else nullcontext()
        with context:
            return self.work.call(*self.inputs)


class GraphRunner(Runner):
    """The forward pass as one CUDA graph: the launches of all kernels cost what one does."""

    _graph: Callable[[], list[Tensor]] | None = None

    def run(self, watch: AbstractContextManager[Any] | None = None) -> list[Tensor]:
        """As `Runner.run`, same shapes, in the memory that the graph writes to; `watch` is not used."""
        if self._graph is None:
            # One block round all calls, so that the values of weights that it reads are kept.
            with fixed_weights() as self._used:
                self._graph = CapturedCall(super().run)
        return self._graph()
