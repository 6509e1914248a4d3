"""Any feature network as an extractor, where the well-known weights are absent or do not fit the pictures."""

from __future__ import annotations

from torch import Tensor

from sgxl_t.metrics.features.base import Extractor
from sgxl_t.metrics.features.resize import bicubic_antialias
from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.frozen import load_feature_network


class NetworkExtractor(Extractor):
    """The pooled features of a network by reference, as `load_feature_network` takes it.

    Pictures go to the side the network was trained on by antialiased bicubic in float, then to [0, 1].
    """

    def __init__(self, reference: str) -> None:
        network = load_feature_network(reference)
        side = network.input_size
        resized = "own-side" if side is None else f"bicubic-antialias-{side}"
        super().__init__(reference, {"pooled": network.embed_dim}, f"{resized}-own-mean")
        self.network: FeatureNetwork = network

    def features(self, images: Tensor) -> dict[str, Tensor]:
        side = self.network.input_size
        x = images.float() if side is None else bicubic_antialias(images, side).clamp(0, 255)
        return {"pooled": self.network.pooled(x / 255)}
