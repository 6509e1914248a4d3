"""Generator, discriminator and guides of a run, for training and as shapes for an estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.discriminators.discriminator import Discriminator, build_discriminator
from sgxl_t.networks.frozen import load_feature_network
from sgxl_t.networks.generators.frozen_t import freeze, frozen_names
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.networks.generators.superres import freeze_for_stage
from sgxl_t.networks.text.text_encoder import ImageGuide, TextEncoder
from sgxl_t.training.config.settings import FrozenParts, NetworkSettings


@dataclass
class Networks:
    """What an update computes with, beside encoders of the condition."""

    generator: Generator
    discriminator: Discriminator
    classifier: FeatureNetwork | None
    clip: ImageGuide | None


def build_networks(
    settings: NetworkSettings,
    spec: ConditionSpec,
    encoder: TextEncoder | None,
    load: Callable[[str], FeatureNetwork] = load_feature_network,
) -> Networks:
    """The networks with their first values, drawn from torch's global stream, and what is frozen of them.

    spec: what the generator takes. encoder: frozen, of captions, on whose vectors the discriminator projects
    and whose image tower may guide. load: a feature network by reference.
    """
    generator = build_generator(settings.generator, spec)
    features = [load(reference) for reference in settings.discriminator.features]
    discriminator = build_discriminator(
        settings.discriminator,
        spec if encoder is None else replace(spec, dim=encoder.dim),
        settings.generator.img_resolution,
        networks=features,
        seed=settings.seed,
    )
    generator.recompute_from(settings.checkpoint_from)
    freeze_parts(generator, settings.frozen)
    classifier = None if settings.classifier is None else load(settings.classifier)
    clip = encoder.guide if encoder is not None and settings.clip_guides else None
    for guide in (classifier, clip):
        if guide is not None:
            guide.precision = settings.discriminator.precision
    return Networks(generator, discriminator, classifier, clip)


def freeze_parts(generator: Generator, frozen: FrozenParts) -> None:
    """Parameters of these parts take no gradients from now on."""
    if frozen.stem:
        freeze_for_stage(generator, train_input=not frozen.stem_input)
    if frozen.below is not None:
        train_torgb = not frozen.lowres_torgb
        freeze(generator, frozen_names(generator, frozen.below, train_lowres_torgb=train_torgb))
    if frozen.generator:
        generator.requires_grad_(False)
