"""A generator family of one's own: nearest-neighbour upsampling, plain convolutions, styles as scales."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig
from sgxl_t.networks.generators.generator import register_generator
from sgxl_t.networks.generators.mapping_t import MappingT
from sgxl_t.training.train import main

CHANNELS, FIRST = 32, 4


class PlainSynthesis(nn.Module):
    """ws [N, num_ws, w_dim] -> images [N, img_channels, R, R]; doubles a learned 4 x 4 map up to R."""

    recompute_from: int | None = None  # layers that are computed once more in backward passes: none here

    def __init__(self, config: GeneratorConfig, w_dim: int) -> None:
        super().__init__()
        self.num_ws = (config.img_resolution // FIRST).bit_length() - 1
        self.first = nn.Parameter(torch.randn(CHANNELS, FIRST, FIRST))
        self.convs = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(self.num_ws))
        self.scales = nn.ModuleList(nn.Linear(w_dim, CHANNELS) for _ in range(self.num_ws))
        self.to_rgb = nn.Conv2d(CHANNELS, config.img_channels, 1)

    def forward(self, ws: Tensor, **unused: Any) -> Tensor:
        """unused: noise and tokens of captions, which other families take."""
        x = self.first.expand(len(ws), -1, -1, -1)
        for w, conv, scale in zip(ws.unbind(1), self.convs, self.scales, strict=True):
            x = conv(F.interpolate(x, scale_factor=2)) * (1 + scale(w))[:, :, None, None]
            x = F.leaky_relu(x, 0.2)
        return self.to_rgb(x).float()


@register_generator("plain")
def plain(config: GeneratorConfig, condition: ConditionSpec) -> tuple[nn.Module, nn.Module]:
    """The synthesis, and StyleGAN-T's mapping network in front of it, which brings truncation along."""
    w_dim = config.z_dim + condition.dim
    synthesis = PlainSynthesis(config, w_dim)
    return synthesis, MappingT(config, condition, synthesis.num_ws)


if __name__ == "__main__":
    main()
