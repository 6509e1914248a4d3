"""Sampling mode of a pipeline: forms of the operators, kept values, compiled code, CUDA graphs."""

from __future__ import annotations

import copy
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.synthesis_xl import SynthesisLayer
from sgxl_t.networks.text.tokens import Text
from sgxl_t.ops import formulation
from sgxl_t.ops.conv.frozen import Used, fixed_weights
from sgxl_t.ops.formulation import ConvForm, FilterForm, Formulation
from sgxl_t.ops.images import to_uint8
from sgxl_t.sampling.fast.graphs import CapturedCall, leaves, mapped
from sgxl_t.sampling.prompts import State, state_of

GRAPHS = 8
"""Graphs kept: captions of several lengths need one each."""

PROGRAMS = 1024
"""Programs that the compiler may make of one function; every layer needs its own and its limit is 8."""

Paint = Callable[[Tensor, Text | None], Tensor]


@dataclass(frozen=True)
class Optimized:
    """What `Pipeline.optimize` did.

    conv, filter: forms in use; None leaves the choice of the surrounding code. batch_size: pictures at a time
    that code was compiled or captured for, None where any number is as good. kept, kept_bytes: values
    computed from weights and their size. seconds: of the run that made all this, compilation included.
    """

    conv: ConvForm | None = None
    filter: FilterForm | None = None
    compile: bool = False
    cuda_graphs: bool = False
    batch_size: int | None = None
    kept: int = 0
    kept_bytes: int = 0
    seconds: float = 0.0

    @property
    def compiles(self) -> bool:
        """Whether a compiler was at work."""
        return self.compile or self.filter in ("compiled", "triton")

    def __str__(self) -> str:
        kept = f"{self.kept} values of weights kept ({self.kept_bytes / 2**20:.1f} MiB)"
        parts = [kept] if self.kept else []  # compiled code computes from the weights themselves
        parts += ["Winograd's convolutions where they pay"] if self.conv == "winograd" else []
        parts += [f"{self.filter} filters"] if self.filter in ("compiled", "triton") else []
        parts += ["synthesis compiled"] if self.compile else []
        parts += ["CUDA graphs"] if self.cuda_graphs else []
        parts += [f"batches of {self.batch_size}"] if self.batch_size is not None else []
        took = "compiled" if self.compiles else "prepared"
        return f"optimised: {', '.join(parts)}; {took} in {self.seconds:.1f} s"


class Painter:
    """Styles to pictures by a generator as it is. dtype: of products, None for float32."""

    batch_size: int | None = None
    """Pictures at a time that it is made for; None for any number."""

    def __init__(self, generator: Generator, dtype: torch.dtype | None) -> None:
        self.generator, self.dtype = generator, dtype
        self.device = next(generator.parameters()).device

    @torch.no_grad()
    def __call__(self, ws: Tensor, text: Text | None = None) -> Tensor:
        """ws [N, num_ws, w_dim], and tokens for a generator that attends -> uint8 [N, C, R, R], CPU."""
        return self._paint(ws, text).cpu()

    def _paint(self, ws: Tensor, text: Text | None) -> Tensor:
        with torch.autocast(self.device.type, dtype=self.dtype) if self.dtype else nullcontext():
            return to_uint8(self._synthesis()(ws, noise_mode="const", tokens=text))

    def _synthesis(self) -> Callable[..., Tensor]:
        return self.generator.synthesis


class FastPainter(Painter):
    """The same in the forms of a choice, in inference mode, for weights that change only as torch counts.

    Compiled and captured code works on batches of one size: fewer pictures are filled up, more are cut.
    """

    def __init__(self, generator: Generator, dtype: torch.dtype | None, choice: Optimized) -> None:
        super().__init__(generator, dtype)
        self.choice, self.batch_size = choice, choice.batch_size
        self._compiled: Callable[..., Tensor] | None = None
        if choice.compile:
            self._compiled = _compiled(generator)
        self._graphs: OrderedDict[tuple[Any, ...], _Graph] = OrderedDict()
        self._state: State = ()
        self._lock = threading.Lock()

    def __call__(self, ws: Tensor, text: Text | None = None) -> Tensor:
        size, count = self.batch_size, len(ws)
        if size is None:
            with self.mode():
                return self._paint(ws, text).cpu()
        made = []
        for first in range(0, count, size):
            index = torch.arange(first, first + size, device=ws.device).clamp(max=count - 1)
            part, words = mapped((ws, text), partial(torch.index_select, dim=0, index=index))
            with self.mode():
                made.append(self._whole(part, words)[: count - first])
        return torch.cat(made)

    @contextmanager
    def mode(self) -> Iterator[Used]:
        """The chosen forms, in this thread alone; gives the values of weights that are used meanwhile."""
        forms = formulation.use(conv=self.choice.conv, filter=self.choice.filter)
        with torch.inference_mode(), forms, fixed_weights() as used:
            yield used

    def _whole(self, ws: Tensor, text: Text | None) -> Tensor:
        """One batch of the size that was prepared, on the CPU."""
        if not self.choice.cuda_graphs:
            return self._paint(ws, text).cpu()
        with self._lock:  # a graph's inputs and results lie in one place
            state = state_of([*self.generator.parameters(), *self.generator.buffers()])
            if state != self._state:
                self._graphs.clear()
                self._state = state
            key = tuple((x.shape, x.dtype) for x in leaves((ws, text)))
            if key not in self._graphs:
                while len(self._graphs) >= GRAPHS:
                    self._graphs.popitem(last=False)
                self._graphs[key] = _Graph(self._paint, self.mode, ws, text)
            self._graphs.move_to_end(key)
            return self._graphs[key](ws, text).cpu()

    def _synthesis(self) -> Callable[..., Tensor]:
        return self.generator.synthesis if self._compiled is None else self._compiled


class _Graph:
    """A batch of fixed shape as one CUDA graph, with the inputs it reads and the kept values it refers to."""

    def __init__(self, paint: Paint, mode: Callable[[], Any], ws: Tensor, text: Text | None) -> None:
        self._inputs = mapped((ws, text), torch.clone)
        with mode() as used:
            self._call = CapturedCall(lambda: paint(*self._inputs))
        self._used = dict(used)

    def __call__(self, ws: Tensor, text: Text | None) -> Tensor:
        for place, value in zip(leaves(self._inputs), leaves((ws, text)), strict=True):
            place.copy_(value)
        return self._call()


def prepare(painter: FastPainter, ws: Tensor, text: Text | None) -> Optimized:
    """Paints one picture of ws [1, num_ws, w_dim], which fills caches and compiles; what came of it."""
    start = time.perf_counter()
    try:
        with fixed_weights() as used:
            painter(ws, text)
    except torch.OutOfMemoryError:
        raise ValueError(
            f"the memory of {painter.device} does not hold batches of {painter.batch_size or 1}: use a "
            "smaller batch_size, or another device"
        ) from None
    seconds = time.perf_counter() - start
    size = sum(value.numel() * value.element_size() for value in used.values())
    return replace(painter.choice, kept=len(used), kept_bytes=size, seconds=seconds)


def check_choice(choice: Optimized, device: torch.device, precision: str) -> None:
    """ValueError where a form does not exist, cannot run here or would change nothing."""
    Formulation(conv=choice.conv or "direct", filter=choice.filter or "band")
    size = choice.batch_size
    if size is not None and size < 1:
        raise ValueError(f"batch_size={size} makes no picture: use at least 1")
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
