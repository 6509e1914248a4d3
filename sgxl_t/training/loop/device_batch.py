"""Micro-batches on the device, made ready while the update before still runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from sgxl_t.conditioning.condition import Condition
from sgxl_t.datasets.base import Batch
from sgxl_t.objectives.micro_batch import MicroBatch
from sgxl_t.training.loop.picture_features import PictureFeatures


class DeviceBatches:
    """Sends batches to the device and encodes their conditions. On a GPU that has a queue of its own.

    The loop hands its kernels to the GPU and goes on, so the next update's images are fetched, copied from
    pinned memory and their captions encoded while the GPU works on the update before. A CPU works on one
    thing at a time.
    """

    def __init__(
        self, condition: Condition, device: torch.device, pictures: PictureFeatures | None = None
    ) -> None:
        """pictures: for a generator that learns under features of the pictures themselves."""
        self.condition, self.device, self.pictures = condition, device, pictures
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

    @torch.no_grad()
    def micro_batch(self, batch: Batch, position: int) -> MicroBatch:
        """The batch on the device, its conditions encoded as far as nothing learns. Call inside `beside`."""
        images = self.send(batch.images)
        labels = None if batch.labels is None else self.send(batch.labels)
        conditions = self.condition.from_batch(replace(batch, labels=labels))
        cond = self.condition.encode_frozen(conditions)._replace(labels=labels)
        if not self.condition.learns:
            cond = self.condition.encode(conditions, cond)
        made = MicroBatch(images, cond, conditions=conditions, position=position)
        if self.pictures is None:
            return made
        return replace(made, cond=self.pictures.added(made.real, cond, position))

    def encoded(self, batch: MicroBatch) -> MicroBatch:
        """The micro-batch with what the generator takes, which a text encoder that learns makes anew."""
        if not self.condition.learns:
            return batch
        return replace(batch, cond=self.condition.encode(batch.conditions, batch.cond))

    def send(self, tensor: Tensor) -> Tensor:
        """The loader's tensor, of any shape, on the device, without waiting for the copy."""
        if self._stream is not None:
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def hand_over(self, batches: list[MicroBatch]) -> list[MicroBatch]:
        """The micro-batches, which the training queue may use from here on; this waits in the queue alone."""
        if self._stream is not None:
            training = torch.cuda.current_stream(self.device)
            training.wait_stream(self._stream)
            for tensor in tree_leaves([(one.images, one.cond) for one in batches]):
                if isinstance(tensor, Tensor) and tensor.is_cuda:
                    tensor.record_stream(training)  # its memory is not given away before
        return batches
