"""What the real pictures add to their captions, for a generator that learns under it and remembers some."""

from __future__ import annotations

import torch
from torch import Tensor

from sgxl_t.conditioning import Condition, TextCondition
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.instance_memory import InstanceMemory
from sgxl_t.networks.generators.mapping_t import MappingT
from sgxl_t.networks.text.text_encoder import ImageGuide
from sgxl_t.ops.random import training_rng


class PictureFeatures:
    """Tells generator and heads what the frozen image tower sees in each picture (IC-GAN, section 3)."""

    def __init__(self, tower: ImageGuide, memory: InstanceMemory, z_dim: int, seed: int) -> None:
        """memory: of the average generator, which no back end wraps, and its z_dim. seed: of the run."""
        self.tower, self.memory, self.z_dim, self.seed = tower, memory, z_dim, seed

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """float32 [N, picture_dim] of unit length of images [N, 3, R, R] in [-1, 1]."""
        return self.tower.encode_image((images + 1) / 2).float()

    @torch.no_grad()
    def added(self, images: Tensor, cond: Conditioning, position: int) -> Conditioning:
        """The conditions of images [N, 3, R, R] with deviations for the generator and features for the heads.

        Every other image has its own deviation, and the heads are told its features beside the caption's. The
        rest are as at sampling: a remembered deviation, and heads that are told the caption alone, zeros
        beside it. So what another picture's deviation holds of that picture's caption is unlearnt.

        position: of the first image in the run, which decides what is drawn. Guidance by CLIP aims at
        captions.
        """
        assert cond.c is not None
        assert cond.target is not None
        seen = self.features(images)
        rng = training_rng(self.seed, "pictures", position)
        z = torch.randn(len(seen), self.z_dim, generator=rng).to(seen.device)
        own = torch.arange(len(seen), device=seen.device) % 2 == 0
        told = torch.where(own[:, None], self.memory.told(cond.c, seen), self.memory(z, cond.c))
        target = torch.cat([cond.target, seen * own[:, None]], dim=1)
        return cond._replace(pictures=told, own=own, target=target)


def picture_features(generator: Generator, condition: Condition, seed: int) -> PictureFeatures | None:
    """None for a generator without a memory. seed: of the run."""
    mapping = generator.mapping
    if not isinstance(mapping, MappingT) or mapping.memory is None:
        return None
    assert isinstance(condition, TextCondition)
    tower = condition.original.guide
    assert tower is not None, "a condition with a picture_dim has an image tower"
    return PictureFeatures(tower, mapping.memory, generator.z_dim, seed)
