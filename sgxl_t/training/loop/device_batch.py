"""What an update takes in: pictures as bytes, and conditions, made ready beside the update before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from sgxl_t.networks.text.tokens import TextTokens
from sgxl_t.ops.images import as_rgb, from_uint8

Taken = tuple[Tensor | None, TextTokens | None]
"""A generator's condition, and the tokens that it attends to, if it does."""


@dataclass
class Round:
    """One round's share of a batch on this process, on the device.

    pixels: uint8 [N, C, R, R]; a quarter of the floats, which are made where they are needed. given: labels
    or captions as the condition encodes them. c: what heads project on. taken: c and tokens as the generator
    takes them, encoded once for all phases; none where its text tower learns. position: of its first image in
    the order of all processes, the key of its random streams.
    """

    pixels: Tensor
    given: Any
    c: Tensor | None
    taken: Taken | None
    labels: Tensor | None
    position: int

    @property
    def real(self) -> Tensor:
        """The pictures as floats [N, 3, R, R] in [-1, 1], made anew each time."""
        return as_rgb(from_uint8(self.pixels))


class Intake:
    """Sends pictures to the device. On a GPU that has a queue of its own, beside the one that trains.

    The loop hands its kernels to the GPU and goes on, so the next update's pictures are fetched, copied from
    pinned memory and their captions encoded while the GPU works on the update before. On a CPU there is
    nothing to do beside.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Inside, the device works for the next update: on nothing that an update changes."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

    def send(self, tensor: Tensor) -> Tensor:
        """A tensor of the loader on the device; nothing waits for the copy."""
        if self._stream is not None:
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def hand_over(self, rounds: list[Round]) -> list[Round]:
        """The rounds, which the training queue may use from here on; this waits in the queue alone."""
        if self._stream is not None:
            training = torch.cuda.current_stream(self.device)
            training.wait_stream(self._stream)
            for tensor in tree_leaves([(one.pixels, one.c, one.taken, one.labels) for one in rounds]):
                if isinstance(tensor, Tensor) and tensor.is_cuda:
                    tensor.record_stream(training)  # its memory is not given away before
        return rounds
