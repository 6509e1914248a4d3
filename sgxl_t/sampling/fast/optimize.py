"""Sampling mode of a pipeline: backends of the operators, cached values, compiled code, CUDA graphs."""

from __future__ import annotations

import copy
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from sgxl_t.networks.conditioning import rows
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.synthesis_xl import SynthesisLayer
from sgxl_t.networks.text.tokens import Text
from sgxl_t.ops import backend
from sgxl_t.ops.backend import Backend, ConvBackend, FilterBackend
from sgxl_t.ops.conv.frozen import Used, fixed_weights
from sgxl_t.sampling.fast.graphs import CapturedCall
from sgxl_t.sampling.prompt_cache import State, state_of

GRAPHS = 8
"""Graphs that are cached: captions of several lengths need one each."""

PROGRAMS = 1024
"""Programs that the compiler may make of one function; every layer needs its own and its limit is 8."""

Synthesize = Callable[[Callable[..., Tensor], Tensor, Text | None], Tensor]


@dataclass(frozen=True)
class Optimized:
    """What `Pipeline.optimize` did.

    conv, filter: backends in use; None leaves the choice of the surrounding code. batch_size: images at a
    time that code was compiled or captured for, None where any number is as good. cached, cached_bytes:
    values computed from weights and their size. seconds: of the run that made all this, compilation included.
    """

    conv: ConvBackend | None = None
    filter: FilterBackend | None = None
    compile: bool = False
    cuda_graphs: bool = False
    batch_size: int | None = None
    cached: int = 0
    cached_bytes: int = 0
    seconds: float = 0.0

    @property
    def compiles(self) -> bool:
        """Whether a compiler was at work."""
        return self.compile or self.filter in ("compiled", "triton")

    def __str__(self) -> str:
        cached = f"{self.cached} values of weights cached ({self.cached_bytes / 2**20:.1f} MiB)"
        parts = [cached] if self.cached else []  # compiled code computes from the weights themselves
        parts += ["Winograd's convolutions where they pay"] if self.conv == "winograd" else []
        parts += [f"{self.filter} filters"] if self.filter in ("compiled", "triton") else []
        parts += ["synthesis compiled"] if self.compile else []
        parts += ["CUDA graphs"] if self.cuda_graphs else []
        parts += [f"batches of {self.batch_size}"] if self.batch_size is not None else []
        took = "compiled" if self.compiles else "prepared"
        return f"optimised: {', '.join(parts)}; {took} in {self.seconds:.1f} s"


class FastSynthesis:
    """Styles to pixels with the chosen backends, in inference mode; weights may change only as torch counts.

    Compiled and captured code works on batches of one size: fewer images are filled up, more are cut.
    batch_size: that size; None for any number.
    """

    def __init__(self, generator: Generator, synthesize: Synthesize, choice: Optimized) -> None:
        """synthesize: from a synthesis (as it is, or compiled), ws and tokens to uint8 on the device."""
        self.generator, self.synthesize = generator, synthesize
        self.device = next(generator.parameters()).device
        self.choice, self.batch_size = choice, choice.batch_size
        self._synthesis = _compiled(generator) if choice.compile else generator.synthesis
        self._graphs: OrderedDict[tuple[Any, ...], _Graph] = OrderedDict()
        self._state: State = ()
        self._lock = threading.Lock()

    def __call__(self, ws: Tensor, tokens: Text | None = None) -> Tensor:
        """ws [N, num_ws, w_dim], and tokens for a generator that attends -> uint8 [N, C, R, R], CPU."""
        size, count = self.batch_size, len(ws)
        if size is None:
            with self.mode():
                return self._run(ws, tokens).cpu()
        made = []
        for first in range(0, count, size):
            index = torch.arange(first, first + size, device=ws.device).clamp(max=count - 1)
            part, context = rows((ws, tokens), index)
            with self.mode():
                made.append(self._whole(part, context)[: count - first])
        return torch.cat(made)

    @contextmanager
    def mode(self) -> Iterator[Used]:
        """The chosen backends, in this thread alone; gives the cached values of weights that are used."""
        backends = backend.use(conv=self.choice.conv, filter=self.choice.filter)
        with torch.inference_mode(), backends, fixed_weights() as used:
            yield used

    def _whole(self, ws: Tensor, tokens: Text | None) -> Tensor:
        """One batch of the size that was prepared, on the CPU."""
        if not self.choice.cuda_graphs:
            return self._run(ws, tokens).cpu()
        with self._lock:  # a graph's inputs and results lie in one place
            state = state_of([*self.generator.parameters(), *self.generator.buffers()])
            if state != self._state:
                self._graphs.clear()
                self._state = state
            key = tuple((x.shape, x.dtype) for x in _tensors((ws, tokens)))
            if key not in self._graphs:
                while len(self._graphs) >= GRAPHS:
                    self._graphs.popitem(last=False)
                self._graphs[key] = _Graph(self._run, self.mode, ws, tokens)
            self._graphs.move_to_end(key)
            return self._graphs[key](ws, tokens).cpu()

    def _run(self, ws: Tensor, tokens: Text | None) -> Tensor:
        return self.synthesize(self._synthesis, ws, tokens)


class _Graph:
    """A batch of fixed shape as one CUDA graph, with its inputs and the cached values that it reads."""

    def __init__(
        self,
        run: Callable[[Tensor, Text | None], Tensor],
        mode: Callable[[], Any],
        ws: Tensor,
        tokens: Text | None,
    ) -> None:
        self._inputs = tree_map_only(Tensor, torch.clone, (ws, tokens))
        with mode() as used:
            self._call = CapturedCall(lambda: run(*self._inputs))
        self._used = dict(used)

    def __call__(self, ws: Tensor, tokens: Text | None) -> Tensor:
        for held, value in zip(_tensors(self._inputs), _tensors((ws, tokens)), strict=True):
            held.copy_(value)
        return self._call()


def _tensors(nested: Any) -> list[Tensor]:
    """Those in nested tuples, in order."""
    return [leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor)]


def prepare(fast: FastSynthesis, ws: Tensor, tokens: Text | None) -> Optimized:
    """Makes one image of ws [1, num_ws, w_dim], which fills caches and compiles; returns what was done."""
    start = time.perf_counter()
    try:
        with fixed_weights() as used:
            fast(ws, tokens)
    except torch.OutOfMemoryError:
        raise ValueError(
            f"the memory of {fast.device} does not hold batches of {fast.batch_size or 1}: use a "
            "smaller batch_size, or another device"
        ) from None
    seconds = time.perf_counter() - start
    size = sum(value.numel() * value.element_size() for value in used.values())
    return replace(fast.choice, cached=len(used), cached_bytes=size, seconds=seconds)


def check_choice(choice: Optimized, device: torch.device, precision: str) -> None:
    """ValueError where a form does not exist, cannot run here or would change nothing."""
    Backend(conv=choice.conv or "direct", filter=choice.filter or "band")
    size = choice.batch_size
    if size is not None and size < 1:
        raise ValueError(f"batch_size={size} is too small: use 1 or more")
    if size is not None and not (choice.cuda_graphs or choice.compiles):
        raise ValueError(f"batch_size={size} is for what is compiled or captured: leave it out")
    if choice.cuda_graphs and device.type != "cuda":
        raise ValueError(f"CUDA graphs need an NVIDIA GPU and this pipeline runs on {device}: leave them out")
    if choice.conv == "winograd" and (device.type != "cpu" or precision != "fp32"):
        raise ValueError(
            f"conv=winograd gains nothing in {precision} on {device}: it is for fp32 on a CPU, leave it out"
        )
    if choice.filter == "triton" and (device.type != "cuda" or find_spec("triton") is None):
        raise ValueError(f"filter=triton needs a GPU and Triton, not {device}: use compiled, or leave it out")
    if choice.compile and choice.conv == "winograd":
        raise ValueError("compile takes the direct convolution and not conv=winograd: leave one of both out")
    if choice.compiles and choice.filter != "triton":
        _check_compiler(device)


def _check_compiler(device: torch.device) -> None:
    from sgxl_t.ops.filtered_lrelu.compiled import available

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        works = available(device)
    if not works:
        needed = "Triton" if device.type == "cuda" else "a C++ compiler"
        raise ValueError(f"torch finds no working compiler for {device}: install {needed}, or do without")


def _compiled(generator: Generator) -> Callable[..., Tensor]:
    """The synthesis compiled, with the weights of the generator.

    Filters stay outside of the compiled code: they have compiled forms of their own, and torch 2.15 takes the
    strides of a sum into permuted memory for those of its terms.
    """
    import torch._dynamo

    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, PROGRAMS)
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, 4 * PROGRAMS)
    shared = (*generator.synthesis.parameters(), *generator.synthesis.buffers())
    twin = copy.deepcopy(generator.synthesis, {id(tensor): tensor for tensor in shared})
    for layer in twin.modules():
        if isinstance(layer, SynthesisLayer):
            layer.lrelu = torch.compiler.disable(layer.lrelu)
    made: Callable[..., Tensor] = torch.compile(twin, dynamic=False)
    return made
