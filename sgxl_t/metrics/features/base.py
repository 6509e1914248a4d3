"""What all feature extractors share: frozen, exact to float32, identified by the hash of their weights."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from sgxl_t.ops.precision import own_precision

HASH_LENGTH = 16
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
COUNTERS = "num_batches_tracked"
"""Batch norm's count of training steps: no weight, and absent from some files."""
_backends: Any = torch.backends
_FP32_SWITCHES = (
    _backends.cuda.matmul,
    _backends.cudnn.conv,
    _backends.mkldnn.matmul,
    _backends.mkldnn.conv,
)


class Extractor(nn.Module, ABC):
    """A frozen network that turns images into the features of a metric.

    name: of the extractor, as `load_extractor` takes it. outputs: name of each output to its width D.
    preprocessing: id of how bytes become the network's input; equal ids mean equal arithmetic.
    Subclasses hold their network as a module and write `features`. Weights stay float32, whatever is asked.
    """

    def __init__(self, name: str, outputs: Mapping[str, int], preprocessing: str) -> None:
        super().__init__()
        self.name = name
        self.outputs = dict(outputs)
        self.preprocessing = preprocessing

    @abstractmethod
    def features(self, images: Tensor) -> dict[str, Tensor]:
        """images uint8 [N, 3, H, W] -> each output [N, D]."""

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images uint8 [N, 3, H, W] in [0, 255] on the extractor's device -> each output float32 [N, D].

        Runs without autocast and TF32, and without gradients. Gray images [N, 1, H, W] are repeated to
        three channels. ValueError for other types and shapes.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(
                f"images of {images.dtype} and shape {list(images.shape)} cannot be measured: give uint8 "
                "[N, 3, H, W], made from floats in [-1, 1] by sgxl_t.ops.images.to_uint8"
            )
        with full_precision(images):
            results = self.features(images.expand(-1, 3, -1, -1))
        return {name: value.float() for name, value in results.items()}

    @cached_property
    def weight_hash(self) -> str:
        """16 hex digits of the SHA-256 over all weights; equal weights have it equal on every machine."""
        return state_hash(self.state_dict())

    def freeze(self) -> Extractor:
        """Float32, in eval mode and without gradients; returns itself."""
        self.float().requires_grad_(False)
        super().train(False)
        return self

    def train(self, mode: bool = True) -> Extractor:
        """Stays in eval mode: batch norms must not move."""
        return super().train(False)


class Normalise(nn.Module):
    """Images [N, 3, H, W] in [0, 255]: less a mean, over a deviation, both given per channel of [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, 3, H, W] in [0, 255] -> (x - mean) / std, float32, of the same shape."""
        return (x - self.mean) / self.std


@contextmanager
def full_precision(x: Tensor) -> Iterator[None]:
    """Context without autocast and TF32 on the device of x, whose shape does not matter."""
    with ExitStack() as stack:
        stack.enter_context(own_precision(x))
        for switch in _FP32_SWITCHES:
            stack.callback(setattr, switch, "fp32_precision", switch.fp32_precision)
            switch.fp32_precision = "ieee"
        yield


def state_hash(state: Mapping[str, Tensor]) -> str:
    """16 hex digits of the SHA-256 over names, types, shapes and bytes of the tensors, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.endswith(COUNTERS):
            continue
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:HASH_LENGTH]
