"""DINOv2, whose distance agrees with people better than Inception's (Stein et al. 2023)."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgxl_t.metrics.features.base import IMAGENET_MEAN, IMAGENET_STD, Extractor, Normalise
from sgxl_t.metrics.features.known import KNOWN
from sgxl_t.metrics.features.resize import bicubic_antialias
from sgxl_t.metrics.features.weights import WeightsFile, fill, load_weights, missing_weights
from sgxl_t.networks.weights import hub
from sgxl_t.networks.weights.missing import MissingWeightsError

RESOLUTION = 224
POSITIONS, UNUSED = "pos_embed", "mask_token"
SCALE_OFFSET = 0.1


class DinoV2Extractor(Extractor):
    """The class token of DINOv2's ViT-L/14 (without registers) after its last norm (Oquab et al. 2023).

    Bytes go to 224 x 224 by antialiased bicubic in float, aspect not kept and nothing cropped, and are
    normalised as ImageNet's. network: timm's transformer. resolution: what it was built for.
    """

    def __init__(self, network: nn.Module, resolution: int = RESOLUTION) -> None:
        known = KNOWN["dinov2"]
        super().__init__("dinov2", known.outputs, known.preprocessing)
        self.network: Any = network
        self.resolution = resolution
        self.normalise = Normalise(IMAGENET_MEAN, IMAGENET_STD)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """images uint8 [N, 3, H, W] -> class_token float32 [N, 1024]."""
        x = self.normalise(bicubic_antialias(images, self.resolution))
        return {"class_token": self.network.forward_features(x)[:, 0]}


def load_dinov2(name: str, source: WeightsFile | None) -> Extractor:
    """DINOv2 from a file under its authors' or timm's names, or from the hub."""
    reference = KNOWN[name].reference
    architecture = reference.partition(".")[0]
    with torch.device("meta"):
        network: Any = timm.create_model(architecture, img_size=RESOLUTION, num_classes=0)
    rows = network.patch_embed.grid_size[0]
    if source is not None:
        load_weights(network, source, lambda tensors: at_grid(tensors, rows))
        return DinoV2Extractor(network)
    try:
        trained: Any = hub.fetch(
            reference, lambda: timm.create_model(reference, pretrained=True, num_classes=0)
        )
    except MissingWeightsError as error:
        raise missing_weights(name) from error
    fill(network, at_grid(trained.state_dict(), rows), reference)
    return DinoV2Extractor(network)


def at_grid(tensors: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    """The tensors with the position embedding [1, 1 + L, C] brought to rows x rows patches.

    The mask token, which only training uses, is left out. Other embeddings are left as they are.
    """
    tensors = {name: value for name, value in tensors.items() if name != UNUSED}
    positions = tensors.get(POSITIONS)
    own = round((positions.shape[1] - 1) ** 0.5) if positions is not None and positions.ndim == 3 else 0
    if positions is not None and own and own**2 == positions.shape[1] - 1:
        patches = positions[:, 1:].float().transpose(1, 2).unflatten(2, (own, own))
        patches = resize_positions(patches, rows).flatten(2).transpose(1, 2)
        tensors[POSITIONS] = torch.cat([positions[:, :1].float(), patches], dim=1)
    return tensors


def resize_positions(patches: Tensor, rows: int) -> Tensor:
    """Position embedding [1, C, L, L] -> [1, C, rows, rows] by the rule DINOv2 was trained and is used with.

    Bicubic (a = -0.75) without antialiasing, at the scale (rows + 0.1) / L instead of rows / L: the offset
    was meant against rounding and became part of the network. Other rules move the features visibly.
    """
    if patches.shape[-1] == rows:
        return patches
    scale = (rows + SCALE_OFFSET) / patches.shape[-1]
    return F.interpolate(patches, scale_factor=(scale, scale), mode="bicubic", align_corners=False)
