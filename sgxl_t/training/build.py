"""From a configuration to the parts of a run: data, condition, networks, guidance."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from sgxl_t.conditioning import ClassCondition, Condition, build_condition
from sgxl_t.conditioning.class_check import check_classes
from sgxl_t.conditioning.model_folder import load_model
from sgxl_t.conditioning.table_file import load_class_table
from sgxl_t.datasets.base import ImageSource
from sgxl_t.networks.clip import ClipModel
from sgxl_t.networks.discriminator import Discriminator, build_discriminator
from sgxl_t.networks.feature_networks import FeatureNetwork, load_feature_network
from sgxl_t.networks.generator import Generator
from sgxl_t.networks.references import local_references, trained_kinds
from sgxl_t.networks.registry import build_generator
from sgxl_t.networks.resting_t import rest, resting_names
from sgxl_t.networks.superres import StemView, freeze_for_stage, load_stem
from sgxl_t.networks.text_encoder import TextEncoder
from sgxl_t.networks.text_towers import load_text_encoder
from sgxl_t.training import watchdog
from sgxl_t.training.config import TrainConfig
from sgxl_t.training.data import open_data, open_tracked
from sgxl_t.training.features import train_features
from sgxl_t.training.fixed_captions import keep_captions
from sgxl_t.training.launch_check import check_launch
from sgxl_t.training.runtime import Runtime, stream
from sgxl_t.training.together import main_writes

log = logging.getLogger(__name__)


@dataclass
class Parts:
    """What a run consists of."""

    source: ImageSource
    condition: Condition
    generator: Generator
    discriminator: Discriminator
    classifier: FeatureNetwork | None
    clip: ClipModel | None
    stem: StemView | None


def build_parts(config: TrainConfig, runtime: Runtime, folder: Path) -> Parts:
    """Opens the data, trains missing local features, builds all networks on the run's device.

    The first weights are a function of the seed alone and equal on all ranks.
    """
    source = open_data(config.data, config.generator.img_resolution)
    check_source(config, source)
    check_launch(config, runtime, source)
    # Before features train: a stem of other classes ends the run.
    stem = load_stem_model(config, source) if config.stem else None
    config = resolve_references(config, runtime, folder, source)
    state = torch.random.get_rng_state()
    torch.manual_seed(stream(config.seed, "weights", 0).initial_seed() % 2**63)
    try:
        parts = _networks(config, source, stem)
    finally:
        torch.random.set_rng_state(state)
    for network in (parts.discriminator.features, parts.classifier, parts.clip, parts.condition, parts.stem):
        if network is not None:
            network.to(runtime.device)
    keep_captions(parts.condition, source, runtime, folder / "captions")
    return parts


def check_source(config: TrainConfig, source: ImageSource) -> None:
    """The data must hold what condition and guidance need; raises ValueError."""
    if config.cond == "class" and not source.class_names:
        raise ValueError(
            f"data.source={config.data.source} has no labels, cond=class needs one per picture: "
            f"{source.no_labels or 'put pictures into one folder per class, or use --cond none'}"
        )
    if config.cond == "class":
        check_classes(source, f"data.source={config.data.source}")
        if config.conditioning.class_table is not None:
            load_class_table(config.conditioning.class_table, source.class_names or ())
    if config.cond == "text" and not source.has_captions:
        way_out = "put a .txt file beside each picture, or use --cond class or --cond none"
        raise ValueError(
            f"data.source={config.data.source} has no captions, cond=text needs one per picture: "
            f"{source.no_captions or way_out}"
        )
    if config.log.track_images > 0:
        open_tracked(config, source)
    if config.cond == "class" and config.objective.cls_weight > 0:
        _check_classifier(config, source)


@torch.no_grad()
def _check_classifier(config: TrainConfig, source: ImageSource) -> None:
    """A named network that guides must know as many classes as the data has; `auto:` learns them."""
    name = config.conditioning.classifier
    if name.startswith("auto:"):
        return
    scores = load_feature_network(name).logits(torch.zeros(1, 3, source.resolution, source.resolution))
    if scores.shape[1] != source.num_classes:
        raise ValueError(
            f"conditioning.classifier={name} tells {scores.shape[1]} classes apart and {config.data.source} "
            f"has {source.num_classes}: name a network of these classes, or set objective.cls_weight to 0"
        )


def resolve_references(
    config: TrainConfig, runtime: Runtime, folder: Path, source: ImageSource
) -> TrainConfig:
    """Replaces `auto:KIND` by a local feature network in the run folder, trained first when missing."""
    root = folder / "features"
    used = [*config.discriminator.features]
    if config.cond == "text":
        used.append(config.conditioning.text_encoder)
    if config.cond == "class":
        if not (config.stem or config.conditioning.class_table):
            used.append(config.conditioning.class_features)
        if config.objective.cls_weight > 0:
            used.append(config.conditioning.classifier)
    kinds = list(dict.fromkeys(kind for name in used for kind in trained_kinds(name)))
    if "clip" in kinds and "cnn" not in kinds:
        kinds.insert(0, "cnn")  # the image tower of the local CLIP is the CNN
    missing = [kind for kind in kinds if not (root / kind / "config.json").exists()]
    with main_writes(runtime, folder, "its feature networks"):
        if missing and runtime.is_main:
            log.info("training local feature networks on %s: %s", config.data.source, ", ".join(missing))
            train_features(
                source,
                root,
                kinds=tuple(missing),
                seconds=config.conditioning.feature_seconds,
                seed=config.seed,
                progress=config.log.progress,
            )
    watchdog.beat("building networks", long=True)

    def local(name: str) -> str:
        return local_references(name, root)

    table_network = config.conditioning.class_features
    elsewhere = config.stem or config.conditioning.class_table  # where the table comes from
    conditioning = replace(
        config.conditioning,
        text_encoder=local(config.conditioning.text_encoder),
        class_features=table_network if elsewhere else local(table_network),
        classifier=local(config.conditioning.classifier),
    )
    features = tuple(local(name) for name in config.discriminator.features)
    return replace(
        config, conditioning=conditioning, discriminator=replace(config.discriminator, features=features)
    )


def _networks(config: TrainConfig, source: ImageSource, stem: Generator | None) -> Parts:
    guided = config.objective.clip_weight > 0
    encoder = (
        load_text_encoder(config.conditioning.text_encoder, images=guided) if config.cond == "text" else None
    )
    condition = _condition(config, source, encoder, stem)
    generator = build_generator(config.generator, condition.spec)
    discriminator = build_discriminator(
        config.discriminator, condition.spec, config.generator.img_resolution, seed=config.seed
    )
    generator.recompute_from(config.compute.checkpoint_from)
    condition.init_tables(generator, discriminator.heads)
    if stem is not None:
        load_stem(generator, stem)
        freeze_for_stage(generator, train_input=not config.freeze_input)
    _rest(config, generator)
    classified = config.cond == "class" and config.objective.cls_weight > 0
    classifier = load_feature_network(config.conditioning.classifier) if classified else None
    guiding_clip = encoder.guide if encoder is not None and guided else None
    for guide in (classifier, guiding_clip):
        if guide is not None:
            guide.precision = config.discriminator.precision
    guiding_stem = StemView(stem) if stem and config.objective.stem_weight > 0 else None
    return Parts(source, condition, generator, discriminator, classifier, guiding_clip, guiding_stem)


def _rest(config: TrainConfig, generator: Generator) -> None:
    """Parts of the generator that this run leaves as they are."""
    if config.freeze_stem:
        freeze_for_stage(generator, train_input=not config.freeze_input)
    if config.freeze_below is not None:
        lowres = config.train_lowres_torgb
        rest(generator, resting_names(generator, config.freeze_below, train_lowres_torgb=lowres))
    if config.freeze_generator:
        generator.requires_grad_(False)


def _condition(
    config: TrainConfig, source: ImageSource, encoder: TextEncoder | None, stem: Generator | None
) -> Condition:
    """The run's condition. A file or a named network fills the class tables; with a stem, `auto:` takes the
    stem's."""
    named, table_file = config.conditioning.class_features, config.conditioning.class_table
    if config.cond == "class" and table_file is not None:
        return build_condition("class", source, table_file=table_file)
    if config.cond == "class" and stem is not None and named.startswith("auto:"):
        assert isinstance(stem.mapping.embed, nn.Embedding)
        return ClassCondition(source.class_names or (), stem.mapping.embed.weight)
    class_network = load_feature_network(named) if config.cond == "class" else None
    return build_condition(
        config.cond,
        source,
        clip=encoder,
        class_network=class_network,
        trainable_text=config.conditioning.train_text_encoder,
        own_text=config.conditioning.own_text_encoder,
        text_tokens=bool(config.generator.stylegan_t.attention_resolutions),
    )


def load_stem_model(config: TrainConfig, source: ImageSource) -> Generator:
    """The generator in config.stem; ValueError where it makes other classes than the data has."""
    assert config.stem is not None
    generator, condition, _ = load_model(config.stem)
    if condition.kind == "class" and tuple(source.class_names or ()) != condition.names:
        raise ValueError(
            f"stem={config.stem} makes {len(condition.names)} classes and {config.data.source} has "
            f"{source.num_classes} or names them otherwise: train on the classes of the stem"
        )
    return generator


def real_pictures(source: ImageSource, count: int, seed: int) -> torch.Tensor:
    """uint8 [N, 3, R, R], chosen by seed: for calibration and the first sample sheet."""
    order: Sequence[int] = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[
        :count
    ].tolist()
    return torch.stack([source[index].image for index in order])
