"""Random frozen layers that turn a transformer's equal-sized token maps into a pyramid like a CNN's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SHARES = (1 / 8, 1 / 4, 1 / 2, 1)
"""Channels of the four maps relative to the token width (Ranftl et al. 2021, "Vision Transformers for Dense
Prediction"): 96, 192, 384, 768 for a base model."""


def adapter_channels(width: int) -> tuple[int, ...]:
    """Channels of the four adapted maps of a transformer whose tokens are `width` wide."""
    return tuple(max(int(width * share), 1) for share in SHARES)


class VitAdapter(nn.Module):
    """Four token maps on one grid to four maps at 4, 2, 1 and 1/2 times its side, by layers that never train.

    Projected GAN's treatment of transformers: the layers keep torch's random first values. Official names
    `layer{1..4}.{3,4}` are `layer{1..4}.{0,1}` here.
    """

    def __init__(self, width: int, channels: Sequence[int]) -> None:
        """width: channels of the tokens. channels: of the four results, shallow to deep."""
        super().__init__()
        c1, c2, c3, c4 = channels
        self.layer1 = nn.Sequential(nn.Conv2d(width, c1, 1), nn.ConvTranspose2d(c1, c1, 4, stride=4))
        self.layer2 = nn.Sequential(nn.Conv2d(width, c2, 1), nn.ConvTranspose2d(c2, c2, 2, stride=2))
        self.layer3 = nn.Sequential(nn.Conv2d(width, c3, 1))
        self.layer4 = nn.Sequential(nn.Conv2d(width, c4, 1), nn.Conv2d(c4, c4, 3, stride=2, padding=1))
        self.channels = tuple(channels)
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps [N, width, H, W] -> [N, c1, 4H, 4W], [N, c2, 2H, 2W], [N, c3, H, W], [N, c4, H/2, W/2]."""
        layers = (self.layer1, self.layer2, self.layer3, self.layer4)
        return [layer(x) for layer, x in zip(layers, maps, strict=True)]
