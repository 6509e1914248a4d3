"""From a configuration to the parts of a run: data, condition, networks, guidance."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from sgxl_t.conditioning import ClassCondition, Condition, build_condition
from sgxl_t.conditioning.class_check import check_classes
from sgxl_t.conditioning.class_table import rows_by_name
from sgxl_t.conditioning.table_file import load_class_table
from sgxl_t.datasets.base import ImageSource
from sgxl_t.files.whole import whole_folder
from sgxl_t.metrics.features.extractor_cache import ExtractorCache
from sgxl_t.model_io.model_folder import load_model, read_info
from sgxl_t.networks.backbones.feature_networks import FeatureNetwork, load_feature_network
from sgxl_t.networks.backbones.references import local_references, trained_kinds
from sgxl_t.networks.discriminators.discriminator import Discriminator, build_discriminator
from sgxl_t.networks.generators.frozen_t import freeze, frozen_names
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.networks.generators.superres import StemView, freeze_for_stage, load_stem
from sgxl_t.networks.text.clip import ClipModel
from sgxl_t.networks.text.text_encoder import TextEncoder
from sgxl_t.networks.text.text_towers import load_text_encoder
from sgxl_t.objectives.guidance import check_clip
from sgxl_t.ops.images import as_rgb
from sgxl_t.ops.random import training_rng
from sgxl_t.training.checkpoint.origin import check_resumed, check_start, features_of, model_of
from sgxl_t.training.config.config import TrainConfig, tracked_specs
from sgxl_t.training.local_features.train import train_features
from sgxl_t.training.loop.data import open_data, open_tracked
from sgxl_t.training.loop.fixed_captions import keep_captions, note_cut_captions
from sgxl_t.training.memory.networks import sketch_networks
from sgxl_t.training.memory.shapes import Shapes
from sgxl_t.training.parallel import watchdog
from sgxl_t.training.parallel.launch_check import check_launch
from sgxl_t.training.parallel.machines import share_files
from sgxl_t.training.parallel.main_process import end_together, main_writes
from sgxl_t.training.parallel.runtime import Runtime

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


def build_parts(
    config: TrainConfig, runtime: Runtime, folder: Path, source: ImageSource | None = None
) -> Parts:
    """Trains missing local features, builds all networks on the run's device.

    source: the data, where it has been opened and checked already. The first weights are a function of the
    seed alone and equal on all ranks.
    """
    source = open_checked(config, runtime) if source is None else source
    with end_together(runtime):
        stem = load_model(config.stem)[0] if config.stem else None
    config = resolve_references(config, runtime, folder, source)
    state = torch.random.get_rng_state()
    torch.manual_seed(training_rng(config.seed, "weights", 0).initial_seed() % 2**63)
    try:
        with end_together(runtime):
            parts = _networks(config, source, stem)
    finally:
        torch.random.set_rng_state(state)
    for network in (parts.discriminator.features, parts.classifier, parts.clip, parts.condition, parts.stem):
        if network is not None:
            network.to(runtime.device)
    if runtime.is_main:
        note_cut_captions(parts.condition, source)
    keep_captions(parts.condition, source, runtime, folder / "captions")
    return parts


def open_checked(config: TrainConfig, runtime: Runtime) -> ImageSource:
    """The data of a run, with all that can be refused before anything is trained or written: ValueError."""
    with end_together(runtime):  # a folder may be missing on one machine
        source = open_data(config.data, config.generator)
        check_source(config, source)
        check_start(config, source)
        check_resumed(config, source)
        if config.stem:
            check_stem(config, source)
    check_launch(config, runtime, source)
    if runtime.any(bool(_to_train(config, config.folder() / "features"))):
        with end_together(runtime):
            check_networks(config)
    return source


def check_networks(config: TrainConfig) -> None:
    """Whether the networks can be built once their local features are trained; ValueError where they cannot.

    Named networks are loaded, as their weights may not be had; all others are built without weights.
    """
    for name in _used(config):
        if not trained_kinds(name):
            load_feature_network(name)
    if config.cond == "text" and not trained_kinds(config.conditioning.text_encoder):
        encoder = load_text_encoder(config.conditioning.text_encoder, images=config.objective.clip_weight > 0)
        if config.objective.clip_weight > 0:
            check_clip(config.objective, encoder.guide)
    if config.conditioning.own_text_encoder is not None:
        load_text_encoder(config.conditioning.own_text_encoder)
    sketch_networks(config, Shapes())


def _used(config: TrainConfig) -> list[str]:
    """References of all feature networks that look at images, in the order in which they train."""
    used = [*config.discriminator.features]
    if config.cond == "class":
        if not (config.stem or config.conditioning.class_table or model_of(config)):
            used.append(config.conditioning.class_features)
        if config.objective.cls_weight > 0:
            used.append(config.conditioning.classifier)
    return used


def _to_train(config: TrainConfig, root: Path) -> list[str]:
    """KIND of every `auto:KIND` that is not in `root` yet."""
    used = _used(config)
    if config.cond == "text":
        used.insert(len(config.discriminator.features), config.conditioning.text_encoder)
    kinds = list(dict.fromkeys(kind for name in used for kind in trained_kinds(name)))
    if "clip" in kinds and "cnn" not in kinds:
        kinds.insert(0, "cnn")  # the image tower of the local CLIP is the CNN
    return [kind for kind in kinds if not (root / kind / "config.json").exists()]


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
        _check_extractors(config)
    if config.cond == "class" and config.objective.cls_weight > 0:
        _check_classifier(config, source)


def _check_extractors(config: TrainConfig) -> None:
    """The networks of tracked metrics must be there; untrained ones always are."""
    extractors = ExtractorCache()
    for spec in tracked_specs(config.log.metrics, config.log.track_images):
        if not spec.extractor.startswith("random:"):
            extractors.info(spec)


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
    """Replaces `auto:KIND` by a local feature network in the run folder, which is trained when missing.

    A run that starts from another one on the same classes takes over that one's.
    """
    root = folder / "features"
    missing = _to_train(config, root)
    there = features_of(config, source) if missing else None
    with main_writes(runtime, folder, "its feature networks"):
        if there is not None and runtime.is_main:
            missing = _take_over(there, root, missing)
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
    share_files(runtime, root)
    watchdog.beat("building networks", long=True)

    def local(name: str) -> str:
        return local_references(name, root)

    table_network = config.conditioning.class_features
    # Where the table comes from.
    elsewhere = config.stem or config.conditioning.class_table or model_of(config)
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


def _take_over(there: Path, root: Path, kinds: Sequence[str]) -> list[str]:
    """Copies the feature networks that another run has trained; returns those that it lacks."""
    found = [kind for kind in kinds if (there / kind / "config.json").is_file()]
    for kind in found:
        with whole_folder(root / kind, mark="config.json") as aside:
            shutil.copytree(there / kind, aside, dirs_exist_ok=True)
    if found:
        log.info("local feature networks are those of %s: %s", there, ", ".join(found))
    return [kind for kind in kinds if kind not in found]


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
        freeze(generator, frozen_names(generator, config.freeze_below, train_lowres_torgb=lowres))
    if config.freeze_generator:
        generator.requires_grad_(False)


def _condition(
    config: TrainConfig, source: ImageSource, encoder: TextEncoder | None, stem: Generator | None
) -> Condition:
    """The run's condition. A file or a named network fills the class tables; with a stem, `auto:` takes the
    stem's. The generator of a model folder brings its own."""
    named, table_file = config.conditioning.class_features, config.conditioning.class_table
    if config.cond == "class" and table_file is not None:
        return build_condition("class", source, table_file=table_file)
    if config.cond == "class" and stem is not None and named.startswith("auto:"):
        assert isinstance(stem.mapping.embed, nn.Embedding)
        return ClassCondition(source.class_names or (), stem.mapping.embed.weight)
    if config.cond == "class" and (model := model_of(config)) is not None:
        rows = load_model(model.folder)[0].mapping.embed
        assert isinstance(rows, nn.Embedding)
        names = source.class_names or ()
        return ClassCondition(names, rows_by_name(rows.weight, model.class_names, names))
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


def check_stem(config: TrainConfig, source: ImageSource) -> None:
    """ValueError where config.stem makes other classes than the data has, or no head of this run fits it."""
    assert config.stem is not None
    info = read_info(config.stem)
    if info.condition.kind == "class" and tuple(source.class_names or ()) != info.class_names:
        raise ValueError(
            f"stem={config.stem} makes {len(info.class_names)} classes and {config.data.source} has "
            f"{source.num_classes} or names them otherwise: train on the classes of the stem"
        )
    with torch.device("meta"):
        load_stem(*(build_generator(sizes, info.condition) for sizes in (config.generator, info.generator)))


def real_pictures(source: ImageSource, count: int, seed: int) -> torch.Tensor:
    """uint8 [N, 3, R, R], chosen by seed, gray ones too: for calibration and the first sample sheet."""
    order: Sequence[int] = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[
        :count
    ].tolist()
    return as_rgb(torch.stack([source[index].image for index in order]))
