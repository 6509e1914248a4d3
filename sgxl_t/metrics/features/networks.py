"""Any feature network as an extractor, where the well-known weights are missing or do not suit the images."""

from __future__ import annotations

from torch import Tensor

from sgxl_t.metrics.features.base import Extractor
from sgxl_t.metrics.features.resize import bicubic_antialias
from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.frozen import load_feature_network


class NetworkExtractor(Extractor):
    """The pooled features of a network by reference, as `load_feature_network` takes it.

    Images are resized to what the network was trained on, antialiased bicubic in float, then to [0, 1].
    """

    def __init__(self, reference: str) -> None:
        network = load_feature_network(reference)
        size = network.input_size
        resized = "own-side" if size is None else f"bicubic-antialias-{size}"
        super().__init__(reference, {"pooled": network.embed_dim}, f"{resized}-own-mean")
        self.network: FeatureNetwork = network

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """images uint8 [N, 3, H, W] -> pooled float32 [N, D]; resized where the network asks for a size."""
        size = self.network.input_size
        x = images.float() if size is None else bicubic_antialias(images, size).clamp(0, 255)
        return {"pooled": self.network.pooled(x / 255)}
