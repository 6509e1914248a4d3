"""A discriminator as two parts: frozen features and trainable heads, of either family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sgxl_t.files.choices import add_choice
from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.configs import ConditionSpec, DiscriminatorConfig
from sgxl_t.networks.discriminators.discriminator_t import DinoHeads, TokenFeatures
from sgxl_t.networks.discriminators.discriminator_xl import ProjectedHeads
from sgxl_t.networks.discriminators.projector import ProjectedFeatures
from sgxl_t.networks.frozen import load_feature_network


@dataclass(frozen=True)
class Discriminator:
    """Features and heads side by side, not one module: only the heads are trained, sharded and stored.

    Under several processes call `features` and the wrapped heads separately. In the discriminator's phase
    real and generated images may go through `features` in one batch without gradients; heads see them apart,
    because their normalisation ties the samples of a call together.
    """

    config: DiscriminatorConfig
    features: ProjectedFeatures | TokenFeatures
    heads: ProjectedHeads | DinoHeads

    def __call__(
        self,
        images: Tensor,
        cond: Conditioning | Tensor | None = None,
        rng: torch.Generator | None = None,
    ) -> list[Tensor]:
        """images [N, 3, R, R] in [-1, 1], cond as the heads take it -> per network logits [N, P], float32.

        rng: of the augmentation; needed unless its policy is empty.
        """
        return self.heads(self.features(images, rng), cond)

    def to(self, *args: Any, **kwargs: Any) -> Discriminator:
        """Moves both parts, as `nn.Module.to`."""
        for part in (self.features, self.heads):
            part.to(*args, **kwargs)
        return self


def build_discriminator(
    config: DiscriminatorConfig,
    condition: ConditionSpec,
    img_resolution: int,
    *,
    networks: Sequence[FeatureNetwork] | None = None,
    seed: int = 0,
) -> Discriminator:
    """The discriminator that `config` describes, on the CPU; its random weights depend on `seed` alone.

    networks: the feature networks, else loaded by config.features. ValueError for references that cannot be
    loaded and networks that do not fit the family.
    """
    condition = replace(condition.of_heads, scale=config.text_scale)
    if networks is None:
        networks = [load_feature_network(reference) for reference in config.features]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features, heads = DISCRIMINATORS[config.family](config, condition, img_resolution, networks, seed)
    return Discriminator(config, features, heads)


BuildDiscriminator = Callable[
    [DiscriminatorConfig, ConditionSpec, int, Sequence[FeatureNetwork], int], tuple[Any, Any]
]
DISCRIMINATORS: dict[str, BuildDiscriminator] = {}
"""Family to what makes its features and heads."""


def register_discriminator(family: str) -> Callable[[BuildDiscriminator], BuildDiscriminator]:
    """Decorator: a function of (config, condition, img_resolution, networks, seed) that returns (features,
    heads) becomes a family.

    features(images [N, 3, R, R] in [-1, 1], rng) is frozen, heads(features, condition) gives a list of logits
    [N, P].
    """

    def register(build: BuildDiscriminator) -> BuildDiscriminator:
        add_choice("sgxl_t.networks.configs", "DiscriminatorFamily", family)
        DISCRIMINATORS[family] = build
        return build

    return register


def _projected(
    config: DiscriminatorConfig,
    condition: ConditionSpec,
    img_resolution: int,
    networks: Sequence[FeatureNetwork],
    seed: int,
) -> tuple[ProjectedFeatures, ProjectedHeads]:
    features = ProjectedFeatures(networks, config, seed=seed)
    sizes = features.level_sizes(img_resolution)
    return features, ProjectedHeads(config, condition, features.level_channels, sizes)


def _dino(
    config: DiscriminatorConfig,
    condition: ConditionSpec,
    img_resolution: int,
    networks: Sequence[FeatureNetwork],
    seed: int,
) -> tuple[TokenFeatures, DinoHeads]:
    if len(networks) != 1:
        raise ValueError(
            f"features={[network.reference for network in networks]}: the dino family takes exactly one "
            "vision transformer"
        )
    features = TokenFeatures(networks[0], config, img_resolution)
    return features, DinoHeads(config, condition, features.channels, features.n_heads)


DISCRIMINATORS |= {"projected": _projected, "dino": _dino}
