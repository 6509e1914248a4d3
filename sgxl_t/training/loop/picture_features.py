"""Features of the real pictures themselves, for a generator that learns under them and remembers some."""

from __future__ import annotations

import torch
from torch import Tensor

from sgxl_t.conditioning import Condition, TextCondition
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.instance_memory import InstanceMemory
from sgxl_t.networks.generators.mapping_t import MappingT
from sgxl_t.networks.text.text_encoder import ImageGuide


class PictureFeatures:
    """Tells generator and heads what the frozen image tower sees in each picture (IC-GAN, section 3)."""

    def __init__(self, tower: ImageGuide, memory: InstanceMemory) -> None:
        """memory: of the average generator, which no back end wraps."""
        self.tower, self.memory = tower, memory

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """float32 [N, picture_dim] of unit length of images [N, 3, R, R] in [-1, 1]."""
        return self.tower.encode_image((images + 1) / 2).float()

    def added(self, images: Tensor, cond: Conditioning) -> Conditioning:
        """The conditions with what the pictures differ by, for the generator, and the pictures' own features
        for the heads. Guidance by CLIP still aims at captions."""
        assert cond.c is not None
        seen = self.features(images)
        return cond._replace(pictures=self.memory.told(cond.c, seen), target=seen)


def picture_features(generator: Generator, condition: Condition) -> PictureFeatures | None:
    """None for a generator without a memory."""
    mapping = generator.mapping
    if not isinstance(mapping, MappingT) or mapping.memory is None:
        return None
    assert isinstance(condition, TextCondition)
    tower = condition.original.guide
    assert tower is not None, "a condition with a picture_dim has an image tower"
    return PictureFeatures(tower, mapping.memory)
