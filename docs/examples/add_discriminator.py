"""A discriminator family of one's own: it looks at pixels, without any frozen network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.condition_input import ConditionInput
from sgxl_t.networks.conditioning import Conditioning, as_conditioning
from sgxl_t.networks.configs import ConditionSpec, DiscriminatorConfig
from sgxl_t.networks.discriminators.discriminator import register_discriminator
from sgxl_t.networks.discriminators.features import FrozenFeatures
from sgxl_t.training.train import main

CHANNELS = 32


class PixelFeatures(FrozenFeatures):
    """The frozen half: images [N, 3, R, R] in [-1, 1] as they are. rng is for augmentations; none here."""

    def forward(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
        return images


class PixelHeads(nn.Module):
    """The half that learns: images to one list entry of logits [N, 1], with projection on the condition."""

    def __init__(self, condition: ConditionSpec) -> None:
        super().__init__()
        widths = (3, CHANNELS, CHANNELS, CHANNELS)
        convs = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)]
        self.convs = nn.ModuleList(spectral_norm(conv) for conv in convs)
        self.out = spectral_norm(nn.Linear(CHANNELS, 1))
        self.condition = ConditionInput(condition)  # owns the class table, where there are classes
        self.project = nn.Linear(condition.dim, CHANNELS) if condition.dim else None

    def forward(self, images: Tensor, cond: Conditioning | Tensor | None = None) -> list[Tensor]:
        x = images
        for conv in self.convs:
            x = nn.functional.leaky_relu(conv(x), 0.2)
        x = x.mean(dim=(2, 3))
        logits = self.out(x)
        vectors = self.condition(as_conditioning(cond).target)
        if self.project is not None:
            logits = logits + (x * self.project(vectors)).sum(1, keepdim=True)
        return [logits.float()]


@register_discriminator("pixels")
def pixels(
    config: DiscriminatorConfig,
    condition: ConditionSpec,
    img_resolution: int,
    networks: Sequence[FeatureNetwork],
    seed: int,
) -> tuple[nn.Module, nn.Module]:
    """networks: those that discriminator.features names; none are needed here."""
    return PixelFeatures(), PixelHeads(condition)


if __name__ == "__main__":
    main()
