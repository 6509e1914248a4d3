"""Exponential moving average of a network's weights, counted in images."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from sgxl_t.training.config.parts import EmaConfig

Network = TypeVar("Network", bound=nn.Module)


def ema_decay(config: EmaConfig, batch_images: int, images_seen: int) -> float:
    """Decay per update such that an old weight's share halves every half life (StyleGAN-XL and -T, training).

    images_seen counts before this update; with a ramp the first updates copy the weights.
    """
    half_life = config.half_life_kimg * 1000
    if config.rampup is not None:
        half_life = min(half_life, config.rampup * images_seen)
    return 0.5 ** (batch_images / max(half_life, 1e-8))


class Ema(Generic[Network]):
    """A float32 copy of a network that follows it, never wrapped by a back end; buffers are copied as is."""

    def __init__(self, network: Network, config: EmaConfig) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.config = config

    @torch.no_grad()
    def update(
        self, parameters: Iterable[Tensor], buffers: Iterable[Tensor], batch_images: int, images_seen: int
    ) -> None:
        """Moves the ema by one update of `batch_images` images.

        parameters, buffers: of the trained network, not sharded, in the ema's order and shapes.
        """
        weight = 1 - ema_decay(self.config, batch_images, images_seen)
        torch._foreach_lerp_(list(self.network.parameters()), [p.detach() for p in parameters], weight)
        copies, current = list(self.network.buffers()), list(buffers)
        if copies:
            torch._foreach_copy_(copies, current)
