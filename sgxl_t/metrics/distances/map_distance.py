"""How different two images look to a feature network: LPIPS without its learnt weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sgxl_t.networks.backbones.feature_networks import FeatureNetwork


class MapDistance(nn.Module):
    """Squared differences of a network's maps, each place of unit length, mean over places, summed over maps.

    This is Zhang et al. 2018, equation 1, with all channels weighing the same, so any network does.
    """

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances [N] of images x and y [N, 3, H, W] in [0, 255]; fitted to a network of one side."""
        return (self.embed(x) - self.embed(y)).square().sum(dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [0, 255] to float32 [N, D], whose squared distances are those of images."""
        images = images / 255
        fitted = self.network.fit(images) if self.network.fixed_size else images
        parts = []
        for found in self.network.maps(fitted):
            maps = found.float()
            unit = maps / (maps.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
            parts.append(unit.flatten(1) / unit[0, 0].numel() ** 0.5)
        return torch.cat(parts, dim=1)
