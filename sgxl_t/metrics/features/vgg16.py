"""VGG16's second fully connected layer, the features of improved precision and recall."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.vgg import VGG, vgg16

from sgxl_t.metrics.features.base import IMAGENET_MEAN, IMAGENET_STD, Extractor, Normalise
from sgxl_t.metrics.features.known import KNOWN
from sgxl_t.metrics.features.resize import tf1_bilinear
from sgxl_t.metrics.features.weights import WeightsFile, load_weights, missing_weights

RESOLUTION = 224
FC2 = 5
"""Layers of the classifier up to the ReLU after its second linear layer."""


class VGG16Extractor(Extractor):
    """fc2 after its ReLU, 4096 numbers (Simonyan and Zisserman 2015; Kynkaanniemi et al. 2019).

    Bytes are resized to 224 x 224 as TensorFlow 1 does (bilinear, no half-pixel offset, no antialiasing; what
    the authors' own file does inside is not published), then normalised by the mean and standard deviation of
    ImageNet. network: torchvision's VGG.
    """

    def __init__(self, network: VGG) -> None:
        known = KNOWN["vgg16"]
        super().__init__("vgg16", known.outputs, known.preprocessing)
        self.network = network.to(memory_format=torch.channels_last)
        self.normalise = Normalise(IMAGENET_MEAN, IMAGENET_STD)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """images uint8 [N, 3, H, W] -> fc2 float32 [N, 4096], not negative."""
        x = self.normalise(tf1_bilinear(images, RESOLUTION))
        x = self.network.avgpool(self.network.features(x)).flatten(1)
        return {"fc2": self.network.classifier[:FC2](x)}


def load_vgg16(name: str, source: WeightsFile | None) -> Extractor:
    """VGG16 with torchvision's ImageNet weights, or others under the same names."""
    if source is None:
        raise missing_weights(name)
    with torch.device("meta"):
        network = vgg16()
    load_weights(network, source)
    return VGG16Extractor(network)
