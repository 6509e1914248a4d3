"""From a configuration to the parts of a run: data, condition, networks, guidance."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sgxl_t.conditioning import ClassCondition, Condition, build_condition
from sgxl_t.conditioning.build import Beside
from sgxl_t.datasets.base import ImageSource
from sgxl_t.datasets.embedded.worlds.source import EmojiWorlds
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.discriminators.discriminator import Discriminator
from sgxl_t.networks.frozen import load_feature_network, load_text_encoder
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.superres import StemView, load_stem
from sgxl_t.networks.text.text_encoder import ImageGuide, TextEncoder
from sgxl_t.networks.text.word_tower import WordTower
from sgxl_t.ops.random import training_rng
from sgxl_t.training.config.settings import NetworkSettings
from sgxl_t.training.local_features.resolve import resolve_references
from sgxl_t.training.loop.fixed_captions import cache_captions, note_cut_captions
from sgxl_t.training.networks import build_networks
from sgxl_t.training.parallel.main_process import end_together
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.start.origin import class_rows

log = logging.getLogger(__name__)


@dataclass
class Parts:
    """What a run consists of."""

    source: ImageSource
    condition: Condition
    generator: Generator
    discriminator: Discriminator
    classifier: FeatureNetwork | None
    clip: ImageGuide | None
    stem: StemView | None


def build_parts(
    settings: NetworkSettings,
    data: str,
    source: ImageSource,
    folder: Path,
    runtime: Runtime,
    *,
    progress: bool,
) -> Parts:
    """Trains missing local features, builds all networks on the run's device.

    data, source: the images by reference and opened. folder: of the run. progress: whether features that
    train show a bar. The first weights are a function of the seed alone and equal on all ranks.
    """
    with end_together(runtime):
        stem = load_model(settings.stem)[0] if settings.stem else None
    settings = resolve_references(settings, data, source, folder, runtime, progress=progress)
    state = torch.random.get_rng_state()
    torch.manual_seed(training_rng(settings.seed, "weights", 0).initial_seed() % 2**63)
    try:
        with end_together(runtime):
            parts = _parts(settings, source, stem)
    finally:
        torch.random.set_rng_state(state)
    for network in (parts.discriminator.features, parts.classifier, parts.clip, parts.condition, parts.stem):
        if network is not None:
            network.to(runtime.device)
    if runtime.is_main:
        note_cut_captions(parts.condition, source)
    cache_captions(parts.condition, source, runtime, folder / "captions")
    return parts


def _parts(settings: NetworkSettings, source: ImageSource, stem: Generator | None) -> Parts:
    encoder = None
    if settings.cond == "text":
        named = load_text_encoder(settings.conditioning.text_encoder, images=settings.pictures_read)
        encoder = _for_captions_of(source, named)
    condition = _condition(settings, source, encoder, stem)
    made = build_networks(settings, condition.spec, encoder)
    condition.init_tables(made.generator, made.discriminator.heads)
    if stem is not None:
        load_stem(made.generator, stem)
    guiding_stem = StemView(stem) if stem and settings.objective.stem_weight > 0 else None
    return Parts(
        source, condition, made.generator, made.discriminator, made.classifier, made.clip, guiding_stem
    )


def _for_captions_of(source: ImageSource, encoder: TextEncoder) -> TextEncoder:
    """The encoder, told what the captions say; other words for things of emoji-worlds stay where the captions
    are of these."""
    if isinstance(encoder, WordTower):
        return encoder.for_captions(source.known_captions(), other_words=isinstance(source, EmojiWorlds))
    return encoder


def _condition(
    settings: NetworkSettings, source: ImageSource, encoder: TextEncoder | None, stem: Generator | None
) -> Condition:
    """The run's condition. A file or a named network fills the class tables; with a stem, `auto:` takes the
    stem's. A generator that the run begins from brings its own."""
    named, table_file = settings.conditioning.class_features, settings.conditioning.class_table
    if settings.cond == "class" and table_file is not None:
        return build_condition("class", source, table_file=table_file)
    if settings.cond == "class" and stem is not None and named.startswith("auto:"):
        assert isinstance(stem.mapping.embed, nn.Embedding)
        return ClassCondition(source.class_names or (), stem.mapping.embed.weight)
    names = source.class_names or ()
    if settings.cond == "class" and (rows := class_rows(settings, names)) is not None:
        return ClassCondition(names, rows)
    class_network = load_feature_network(named) if settings.cond == "class" else None
    sizes, beside = settings.generator.stylegan_t, list[Beside]()
    beside += ["tokens"] if sizes.attention_resolutions else []
    beside += ["pictures"] if sizes.instances else []
    own = settings.conditioning.own_text_encoder
    return build_condition(
        settings.cond,
        source,
        clip=encoder,
        class_network=class_network,
        trainable_text=settings.conditioning.train_text_encoder,
        own_text=None if own is None else _for_captions_of(source, load_text_encoder(own)),
        beside=beside,
    )
