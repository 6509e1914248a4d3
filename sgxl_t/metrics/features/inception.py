"""The Inception of FID: TensorFlow's graph of 2015-12-05, of torch-fidelity's blocks.

Heusel et al. 2017 (FID), Salimans et al. 2016 (IS), Nash et al. 2021 (spatial features of sFID), Parmar et
al. 2022 (antialiased input). It differs from torchvision's network in its poolings and its 1008 outputs, and
takes weights under torchvision's names.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import Inception3

from sgxl_t.metrics.features.base import COUNTERS, Extractor
from sgxl_t.metrics.features.known import KNOWN
from sgxl_t.metrics.features.resize import bicubic_antialias, tf1_bilinear
from sgxl_t.metrics.features.weights import WeightsFile, fill, load_weights, missing_weights

RESOLUTION = 299
CLASSES = 1008
SPATIAL_CHANNELS = 7
"""Leading channels of Mixed_6d whose 17 x 17 map are the spatial features: 7 * 17 * 17 = 2023."""
_NO_CLASSIFIER = ("fc.", "AuxLogits.")
_TO_SPATIAL = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    *("maxpool2", "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d"),
)
_TO_POOL3 = ("Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c")


def _fid_blocks() -> Any:
    """torch-fidelity's blocks: torchvision's with the poolings of TensorFlow's graph.

    Their averages leave the padding out, and the last block takes the maximum, an oddity that FID has kept.
    """
    try:
        from torch_fidelity import feature_extractor_inceptionv3
    except ImportError as error:
        raise ValueError(
            "the Inception network comes with torch-fidelity, which cannot be imported "
            f"({error}): pip install 'sgxl-t[metrics]', or measure with fd_local:FOLDER"
        ) from error
    return feature_extractor_inceptionv3


class FIDInception(nn.Module):
    """Images [N, 3, 299, 299] in [-1, 1) to pool3 [N, 2048], spatial [N, 2023] and logits [N, 1008].

    classifier: without it there are no logits. The logits leave out the bias, as the inception score asks.
    """

    def __init__(self, *, classifier: bool = True) -> None:
        super().__init__()
        fid = _fid_blocks()
        kinds = [fid.BasicConv2d, fid.InceptionA, fid.InceptionB, fid.InceptionC, fid.InceptionD]
        kinds += [fid.InceptionE_1, nn.Identity]
        whole = Inception3(CLASSES, aux_logits=False, inception_blocks=kinds, init_weights=False)
        whole.Mixed_7c = fid.InceptionE_2(2048)
        for name in (*_TO_SPATIAL, *_TO_POOL3):
            self.add_module(name, getattr(whole, name))
        self.fc = whole.fc if classifier else None

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """x float32 [N, 3, 299, 299] in [-1, 1) -> the outputs by name; see the class."""
        for name in _TO_SPATIAL:
            x = self.get_submodule(name)(x)
        spatial = x[:, :SPATIAL_CHANNELS].flatten(1)
        for name in _TO_POOL3:
            x = self.get_submodule(name)(x)
        pool3 = x.mean((2, 3))
        outputs = {"pool3": pool3, "spatial": spatial}
        if self.fc is not None:
            outputs["logits"] = pool3 @ self.fc.weight.T
        return outputs


class InceptionExtractor(Extractor):
    """FIDInception behind the input arithmetic of its name; gives the outputs that KNOWN lists for it.

    All names but one resize as TensorFlow 1 does; inception_clean uses antialiased bicubic in float, clipped
    to [0, 255]. Bytes become (x - 128) / 128.
    """

    def __init__(self, name: str, network: FIDInception) -> None:
        super().__init__(name, KNOWN[name].outputs, KNOWN[name].preprocessing)
        self.network = network.to(memory_format=torch.channels_last)  # halves the time on CPUs

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """images uint8 [N, 3, H, W] -> the asked outputs of `FIDInception`, float32 [N, D] each."""
        if self.name == "inception_clean":
            x = bicubic_antialias(images, RESOLUTION).clamp(0, 255)
        else:
            x = tf1_bilinear(images, RESOLUTION)
        outputs = self.network((x - 128) / 128)
        return {name: outputs[name] for name in self.outputs}


def load_inception(name: str, source: WeightsFile | None) -> Extractor:
    """One of the Inceptions of KNOWN. source: its weights; inception_hash makes them and needs none.

    rinception may come without a classifier, since its random logits mean nothing.
    """
    with torch.device("meta"):
        network = FIDInception(classifier=name != "rinception")
    if name == "inception_hash":
        fill(network, hash_weights(network), name)
    elif source is None:
        raise missing_weights(name)
    else:
        load_weights(network, source, _without_classifier if name == "rinception" else dict)
    return InceptionExtractor(name, network)


def _without_classifier(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if not name.startswith(_NO_CLASSIFIER)}


def hash_uniform(seed: int, count: int) -> np.ndarray:
    """count numbers in (-0.5, 0.5), float64 [count], that depend on the seed alone on every machine.

    Element k is the murmur3 finaliser of k * 0x9E3779B1 + seed, modulo 2^32, plus 0.5, over 2^32, minus 0.5.
    """
    h = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(seed)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return (h + 0.5) / 2.0**32 - 0.5


def hash_weights(network: nn.Module) -> dict[str, Tensor]:
    """Pseudo weights of convolutions, batch norms and a classifier `fc`, float32, from names and shapes.

    Seeded by the CRC-32 of each name. Convolutions and the classifier keep the variance of their input;
    means, gains and offsets are spread a little, so that every mistake in using them shows.
    """
    weights = {}
    for name, tensor in network.state_dict().items():
        if name.endswith(COUNTERS):
            continue
        values = hash_uniform(zlib.crc32(name.encode()), tensor.numel())
        if tensor.ndim == 4:
            values *= 2 * 3**0.5 * (2 / tensor[0].numel()) ** 0.5
        elif tensor.ndim == 2:
            values *= 2 * 3**0.5 * (1 / tensor.shape[1]) ** 0.5
        elif name.endswith("bn.weight"):
            values = 1 + 0.4 * values
        elif name.endswith("bn.running_var"):
            values = 1 + 0.5 * values
        elif name.endswith(("bn.bias", "bn.running_mean")):
            values *= 0.2
        weights[name] = torch.from_numpy(values.astype(np.float32)).reshape(tensor.shape)
    return weights
