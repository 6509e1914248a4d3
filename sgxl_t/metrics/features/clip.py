"""CLIP's image towers in the three conventions of papers; numbers of different ones do not compare."""

from __future__ import annotations

from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.metrics.features.base import CLIP_MEAN, CLIP_STD, Extractor, Normalise
from sgxl_t.metrics.features.known import KNOWN
from sgxl_t.metrics.features.resize import bicubic_antialias, bicubic_uint8
from sgxl_t.metrics.features.weights import WeightsFile, load_weights, missing_weights
from sgxl_t.networks.weights import hub
from sgxl_t.networks.weights.missing import MissingWeightsError

PREFIX = "visual."


class ClipExtractor(Extractor):
    """An image tower of open_clip and the one output that its convention takes from it.

    projected: in the space shared with captions, not normalised (FID_CLIP; Kynkaanniemi et al. 2023).
    class_token: after the last norm and before the projection (Stein et al. 2023).
    unit: projected, of length one (CMMD; Jayasumana et al. 2024).
    The first two resize bytes to bytes as Pillow does; unit resizes in float with antialiasing. All three go
    straight to the tower's resolution, without a crop, and use the mean and standard deviation of CLIP.
    """

    def __init__(self, name: str, tower: Any) -> None:
        """tower: takes normalised images of `image_size` and projects by `proj`, as open_clip's do."""
        known = KNOWN[name]
        super().__init__(name, known.outputs, known.preprocessing)
        (self.output,) = known.outputs
        if self.output == "class_token":
            tower.proj = None
        size = tower.image_size
        self.tower = tower  # the name is part of the weight hash that results state
        self.resolution: int = size if isinstance(size, int) else size[0]
        self.normalise = Normalise(CLIP_MEAN, CLIP_STD)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """images uint8 [N, 3, H, W] -> the one output, float32 [N, D], of length one for `unit`."""
        resize = bicubic_antialias if self.output == "unit" else bicubic_uint8
        vectors = self.tower(self.normalise(resize(images, self.resolution).float()))
        return {self.output: F.normalize(vectors, dim=1) if self.output == "unit" else vectors}


def load_clip_extractor(name: str, source: WeightsFile | None) -> Extractor:
    """One of the CLIPs of KNOWN, from a file or from the hub. The file may hold the text encoder too."""
    model_name, _, tag = KNOWN[name].reference.rpartition("/")
    if source is not None:
        config: Any = open_clip.get_model_config(model_name)
        with torch.device("meta"):
            tower = open_clip.CLIP(**config).visual
        load_weights(tower, source, visual_tensors)
        return ClipExtractor(name, tower)
    try:
        model: Any = hub.fetch(
            KNOWN[name].reference, lambda: open_clip.create_model(model_name, pretrained=tag)
        )
    except MissingWeightsError as error:
        raise missing_weights(name) from error
    return ClipExtractor(name, model.visual)


def visual_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a whole CLIP's tensors those of the image tower, under its own names; shapes stay."""
    return {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
