"""What of a run can be refused before anything is trained or written: data, start, networks, launch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sgxl_t.conditioning.class_check import check_classes
from sgxl_t.conditioning.table_file import load_class_table
from sgxl_t.datasets.base import ImageSource
from sgxl_t.datasets.loading.order import labels_in_order
from sgxl_t.metrics.features.extractor_cache import ExtractorCache
from sgxl_t.metrics.protocol import MetricSpec
from sgxl_t.model_io.model_folder import read_info
from sgxl_t.networks.backbones.references import trained_kinds
from sgxl_t.networks.frozen import load_feature_network, load_text_encoder
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.networks.generators.superres import load_stem
from sgxl_t.objectives.guidance import check_clip
from sgxl_t.training.config.parts import DataConfig, LogConfig
from sgxl_t.training.config.settings import NetworkSettings
from sgxl_t.training.local_features.resolve import image_references, missing_kinds
from sgxl_t.training.loop.data import open_data, open_tracked
from sgxl_t.training.memory.networks import Planned, sketch_networks
from sgxl_t.training.memory.shapes import Shapes
from sgxl_t.training.parallel.launch_check import check_launch
from sgxl_t.training.parallel.main_process import end_together
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.start.check import check_resumed, check_start


def open_checked(
    settings: NetworkSettings,
    data: DataConfig,
    log: LogConfig,
    written: dict[str, Any],
    folder: Path,
    runtime: Runtime,
) -> ImageSource:
    """The data of a run, with all that can be refused before anything is trained or written: ValueError.

    written: the whole configuration, as config.yaml holds it. folder: of the run.
    """
    with end_together(runtime):  # a folder may be missing on one machine
        source = open_data(data, settings.generator)
        check_source(settings, data, log, source)
        check_start(settings, folder, source)
        check_resumed(settings, folder, source)
        if settings.stem:
            check_stem(settings, data.source, source)
    check_launch(written, settings.objective, runtime, source)
    if runtime.any(bool(missing_kinds(settings, folder / "features"))):
        with end_together(runtime):
            check_networks(Planned(settings, data, folder / "features"))
    return source


def check_source(settings: NetworkSettings, data: DataConfig, log: LogConfig, source: ImageSource) -> None:
    """The data must hold what condition, guidance and tracked metrics need; raises ValueError."""
    cond = settings.cond
    labels_in_order(source, data.alike)
    if cond == "class":
        _check_labels(settings.conditioning.class_table, data.source, source)
    if cond == "text" and not source.has_captions:
        way_out = "put a .txt file beside each picture, or use --cond class or --cond none"
        raise ValueError(
            f"data.source={data.source} has no captions, cond=text needs one per picture: "
            f"{source.no_captions or way_out}"
        )
    if log.track_images > 0:
        open_tracked(source, data, log.track_source, cond)
        _check_extractors(log.tracked_specs())
    if settings.classifier is not None:
        _check_classifier(settings.classifier, data.source, source)


def _check_labels(table: str | None, name: str, source: ImageSource) -> None:
    if not source.class_names:
        raise ValueError(
            f"data.source={name} has no labels, cond=class needs one per picture: "
            f"{source.no_labels or 'put pictures into one folder per class, or use --cond none'}"
        )
    check_classes(source, f"data.source={name}")
    if table is not None:
        load_class_table(table, source.class_names)


def _check_extractors(specs: Sequence[MetricSpec]) -> None:
    """The networks of tracked metrics must be there; untrained ones always are."""
    extractors = ExtractorCache()
    for spec in specs:
        if not spec.extractor.startswith("random:"):
            extractors.info(spec)


@torch.no_grad()
def _check_classifier(reference: str, name: str, source: ImageSource) -> None:
    """A named network that guides must know as many classes as the data has; `auto:` learns them."""
    if trained_kinds(reference):
        return
    scores = load_feature_network(reference).logits(torch.zeros(1, 3, source.resolution, source.resolution))
    if scores.shape[1] != source.num_classes:
        raise ValueError(
            f"conditioning.classifier={reference} tells {scores.shape[1]} classes apart and {name} "
            f"has {source.num_classes}: name a network of these classes, or set objective.cls_weight to 0"
        )


def check_networks(planned: Planned) -> None:
    """Whether the networks can be built once their local features are trained; ValueError where they cannot.

    Named networks are loaded, as their weights may not be had; all others are built without weights.
    """
    settings = planned.settings
    for name in image_references(settings):
        if not trained_kinds(name):
            load_feature_network(name)
    encoder = settings.conditioning.text_encoder
    if settings.cond == "text" and not trained_kinds(encoder):
        loaded = load_text_encoder(encoder, images=settings.pictures_read)
        if settings.clip_guides:
            check_clip(settings.objective, loaded.guide)
    if settings.conditioning.own_text_encoder is not None:
        load_text_encoder(settings.conditioning.own_text_encoder)
    sketch_networks(planned, Shapes())


def check_stem(settings: NetworkSettings, name: str, source: ImageSource) -> None:
    """ValueError where the stem makes other classes than the data has, or no head of this run fits it."""
    assert settings.stem is not None
    info = read_info(settings.stem)
    if info.condition.kind == "class" and tuple(source.class_names or ()) != info.class_names:
        raise ValueError(
            f"stem={settings.stem} makes {len(info.class_names)} classes and {name} has "
            f"{source.num_classes} or names them otherwise: train on the classes of the stem"
        )
    with torch.device("meta"):
        load_stem(*(build_generator(sizes, info.condition) for sizes in (settings.generator, info.generator)))
