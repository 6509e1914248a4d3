"""How different two images look to a feature network: LPIPS without its learnt weights."""

from __future__ import annotations

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
        pairs = zip(self._maps(x), self._maps(y), strict=True)
        return sum(((a - b).square().sum(dim=1).mean(dim=(1, 2)) for a, b in pairs), x.new_zeros(len(x)))

    def _maps(self, images: Tensor) -> list[Tensor]:
        images = images / 255
        fitted = self.network.fit(images) if self.network.fixed_size else images
        found = [maps.float() for maps in self.network.maps(fitted)]
        return [maps / (maps.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for maps in found]
