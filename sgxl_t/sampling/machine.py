"""What paints the pictures of a pipeline: networks on a device, as they are or in sampling mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from sgxl_t.conditioning.condition import Condition
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.text.tokens import Text
from sgxl_t.ops.formulation import ConvForm, FilterForm
from sgxl_t.sampling.batches import BatchSize
from sgxl_t.sampling.fast.optimize import FastPainter, Optimized, Painter, check_choice, prepare
from sgxl_t.sampling.latents import styles
from sgxl_t.sampling.prompts import Prompts
from sgxl_t.sampling.sample_spec import Shot, Step
from sgxl_t.sampling.token_context import attended_text

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str) -> None:
    """ValueError for an unknown one."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown: use {', '.join(PRECISIONS)}")


class Machine:
    """Generator and condition on a device, which paint shots; each prompt is encoded once."""

    def __init__(
        self, generator: Generator, condition: Condition, device: torch.device, precision: Precision
    ) -> None:
        """Moves both there and freezes the generator."""
        self.device, self.precision = device, precision
        self.generator = generator.eval().requires_grad_(False).to(device)
        self.condition = condition.eval().to(device)
        self._prompts = Prompts(self.condition, self.generator)
        self._painter = Painter(self.generator, PRECISIONS[precision])
        self._fitting = BatchSize(self.generator, device)

    def optimize(
        self,
        *,
        conv: ConvForm | None = None,
        filter: FilterForm | None = None,
        compile: bool = False,
        cuda_graphs: bool = False,
        batch_size: int | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Optimized:
        """From now on keeps all that does not depend on the latent; returns (and prints as) what was done.

        Without arguments pictures are the same up to rounding. conv="winograd": convolutions with a quarter
        of the multiplications, errors about 1e-5. filter="compiled", "triton": filters by a compiler.
        compile: torch.compile of the synthesis. cuda_graphs: it is launched as a whole. All but the first
        cost seconds to minutes now. batch_size: what code is compiled or captured for (the last two take 1
        unless given); other numbers of pictures are filled up or cut. Weights may change afterwards in any
        way that torch counts (`load_state_dict`, optimisers), not through `.data` on a GPU. progress: gets a
        line before compilation begins. ValueError for what cannot run here.
        """
        size = batch_size or 1 if compile or cuda_graphs else batch_size
        choice = Optimized(conv, filter, compile, cuda_graphs, size)
        check_choice(choice, self.device, self.precision)
        if progress is not None and choice.compiles:
            progress("compiling, which can take minutes ...")
        painter = FastPainter(self.generator, PRECISIONS[self.precision], choice)
        done = prepare(painter, *self._trial())
        self._painter = painter
        return done

    def restore(self) -> None:
        """Takes `optimize` back; compiled code and graphs are freed."""
        self._painter = Painter(self.generator, PRECISIONS[self.precision])

    def fitting_batch(self) -> int:
        """Pictures at a time that an automatic batch has now; on a GPU one may be painted to measure it."""
        if self._painter.batch_size is None and not self._fitting.known:
            self._fitting.watch(lambda _: self._painter(*self._trial()), [None])
        return self._painter.batch_size or self._fitting.now()

    def _trial(self) -> tuple[Tensor, Text | None]:
        """Styles of one picture, of no meaning, and tokens where they are wanted."""
        stream, shape = torch.Generator().manual_seed(0), (1, self.generator.num_ws, self.generator.w_dim)
        ws = torch.randn(shape, generator=stream).to(self.device)
        return ws, self._prompts.encode(["a"]).tokens if self.generator.attends else None

    @torch.no_grad()
    def _images(self, shots: Sequence[Shot] | Sequence[Step], pull: dict[str, Any]) -> list[Tensor]:
        """uint8 [3, R, R] on the CPU for each."""
        ws = styles(self.generator, self._prompts, shots, pull)
        text = attended_text(self.generator, self._prompts, shots)
        return list(self._painter(ws, text).unbind())
