"""Images of specs: batches that fit, the generator's synthesis on its device, sampling mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from sgxl_t.networks.generators.fourier_input import moved_input
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.synthesis_t import SynthesisT
from sgxl_t.networks.text.tokens import Text
from sgxl_t.ops.images import to_uint8
from sgxl_t.sampling.batches import BatchSize, in_batches
from sgxl_t.sampling.fast.optimize import FastSynthesis, Optimized, check_choice, prepare
from sgxl_t.sampling.image import GeneratedImage
from sgxl_t.sampling.prompt_cache import PromptCache
from sgxl_t.sampling.sample_spec import AnySpec, MovedFrame, Specs
from sgxl_t.sampling.styles import styles, token_context
from sgxl_t.sampling.truncation.truncation import Truncation
from sgxl_t.sampling.walks.move import input_of, inverse_motion

SamplingPrecision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Drawing:
    """Draws what specs say with one generator, which lies on the device already.

    fast: the prepared form of the synthesis in sampling mode, None outside of it. fitting: how many images
    fit at a time.
    """

    def __init__(
        self,
        generator: Generator,
        prompts: PromptCache,
        device: torch.device,
        precision: SamplingPrecision = "fp32",
    ) -> None:
        """prompts: encodes the conditions of specs. precision: of products."""
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is unknown: use {', '.join(PRECISIONS)}")
        self.generator, self.prompts = generator, prompts
        self.device, self.precision = device, precision
        self.fast: FastSynthesis | None = None
        self.fitting = BatchSize(generator, device)

    def images(
        self, specs: Iterable[AnySpec], truncation: Truncation, batch_size: int | None = None
    ) -> Iterator[GeneratedImage]:
        """The image of each spec, batch by batch. batch_size: None takes what fits."""
        size = batch_size or (None if self.fast is None else self.fast.batch_size)
        make = partial(self.pixels, truncation=truncation)
        coming: Iterator[Any] = iter(specs)
        for spec, pixels in in_batches(coming, make, self.fitting, size):
            yield GeneratedImage(_picture(pixels), spec.label(self.prompts.condition), spec.seed, spec.psi)

    @torch.no_grad()
    def pixels(self, specs: Specs, truncation: Truncation) -> list[Tensor]:
        """uint8 [C, R, R] on the CPU for each spec of one batch."""
        ws = styles(self.generator, self.prompts, specs, truncation)
        tokens = token_context(self.generator, self.prompts, specs)
        moving = [spec for spec in specs if isinstance(spec, MovedFrame)]
        if not moving:
            return list(self.of_styles(ws, tokens).unbind())
        if self.fast is not None or len(moving) < len(specs):
            raise ValueError("moves are made without sampling mode and by themselves: leave --optimize out")
        motion = inverse_motion(moving, turned=self.turned(ws))
        with moved_input(input_of(self.generator), motion):
            return list(self.of_styles(ws, tokens).unbind())

    def turned(self, ws: Tensor) -> Tensor | None:
        """Whether the pictures of styles ws [N, num_ws, w_dim] are mirrored, bool [N]; None for none."""
        synthesis = self.generator.synthesis
        return synthesis.turned(ws) if isinstance(synthesis, SynthesisT) else None

    @torch.no_grad()
    def of_styles(self, ws: Tensor, tokens: Text | None) -> Tensor:
        """ws [N, num_ws, w_dim] -> uint8 [N, C, R, R] on the CPU, in sampling mode where it was asked for."""
        if self.fast is not None:
            return self.fast(ws, tokens)
        return self.synthesize(self.generator.synthesis, ws, tokens).cpu()

    def synthesize(self, synthesis: Callable[..., Tensor], ws: Tensor, tokens: Text | None) -> Tensor:
        """uint8 [N, C, R, R] on the device by the synthesis, or a compiled form of it."""
        dtype = PRECISIONS[self.precision]
        with torch.autocast(self.device.type, dtype=dtype) if dtype else nullcontext():
            return to_uint8(synthesis(ws, noise_mode="const", tokens=tokens))

    def optimize(self, choice: Optimized, progress: Callable[[str], None] | None = None) -> Optimized:
        """From now on in sampling mode; returns the choice with what was done. See `Pipeline.optimize`."""
        check_choice(choice, self.device, self.precision)
        if progress is not None and choice.compiles:
            progress("compiling, which can take minutes ...")
        fast = FastSynthesis(self.generator, self.synthesize, choice)
        done = prepare(fast, *self._trial())
        self.fast = fast
        return done

    def fitting_batch(self) -> int:
        """Images at a time that an automatic batch has now; on a GPU one may be made to measure it."""
        fixed = None if self.fast is None else self.fast.batch_size
        if fixed is None and not self.fitting.known:
            self.fitting.watch(lambda _: self.of_styles(*self._trial()), [None])
        return fixed or self.fitting.now()

    def _trial(self) -> tuple[Tensor, Text | None]:
        """Styles of one meaningless image, and tokens where the generator attends to them."""
        rng, shape = torch.Generator().manual_seed(0), (1, self.generator.num_ws, self.generator.w_dim)
        ws = torch.randn(shape, generator=rng).to(self.device)
        return ws, self.prompts.encode(["a"]).tokens if self.generator.attends else None


def _picture(pixels: Tensor) -> Image.Image:
    """uint8 [1 or 3, R, R] as a picture; torchvision has this too and takes a second to import."""
    rows = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(rows[..., 0] if rows.shape[2] == 1 else rows)
