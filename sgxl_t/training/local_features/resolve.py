"""The feature networks that a run trains itself: which are missing, and `local:FOLDER` for `auto:KIND`."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sgxl_t.datasets.base import ImageSource
from sgxl_t.files.whole import whole_folder
from sgxl_t.networks.backbones.references import local_references, trained_kinds
from sgxl_t.training.config.settings import NetworkSettings
from sgxl_t.training.local_features.train import train_features
from sgxl_t.training.parallel import watchdog
from sgxl_t.training.parallel.machines import share_files
from sgxl_t.training.parallel.main_process import on_main_process
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.start.origin import brings_classes, features_of

log = logging.getLogger(__name__)


def image_references(settings: NetworkSettings) -> list[str]:
    """References of all networks that read images, in the order in which they train."""
    used = [*settings.discriminator.features]
    if settings.cond == "class" and not table_from_elsewhere(settings):
        used.append(settings.conditioning.class_features)
    return used if settings.classifier is None else [*used, settings.classifier]


def table_from_elsewhere(settings: NetworkSettings) -> bool:
    """Whether class vectors come from a stem, a file or what the run begins from."""
    return bool(settings.stem or settings.conditioning.class_table) or brings_classes(settings)


def missing_kinds(settings: NetworkSettings, root: Path) -> list[str]:
    """KIND of every `auto:KIND` that is not in `root` yet."""
    used = image_references(settings)
    if settings.cond == "text":
        used.insert(len(settings.discriminator.features), settings.conditioning.text_encoder)
    kinds = list(dict.fromkeys(kind for name in used for kind in trained_kinds(name)))
    if "clip" in kinds and "cnn" not in kinds:
        kinds.insert(0, "cnn")  # the image tower of the local CLIP is the CNN
    return [kind for kind in kinds if not (root / kind / "config.json").exists()]


def resolve_references(
    settings: NetworkSettings,
    data: str,
    source: ImageSource,
    folder: Path,
    runtime: Runtime,
    *,
    progress: bool,
) -> NetworkSettings:
    """Replaces `auto:KIND` by a local feature network in the run folder, which is trained when missing.

    A run that starts from another one on the same classes takes over that one's. data: its name for the log.
    """
    root = folder / "features"
    missing = missing_kinds(settings, root)
    there = features_of(settings.start, source) if missing else None
    with on_main_process(runtime, folder, "its feature networks"):
        if there is not None and runtime.is_main:
            missing = _take_over(there, root, missing)
        if missing and runtime.is_main:
            log.info("training local feature networks on %s: %s", data, ", ".join(missing))
            train_features(
                source,
                root,
                kinds=tuple(missing),
                seconds=settings.conditioning.feature_seconds,
                seed=settings.seed,
                progress=progress,
            )
    share_files(runtime, root)
    watchdog.beat("building networks", long=True)
    named = settings.conditioning
    conditioning = replace(
        named,
        text_encoder=local_references(named.text_encoder, root),
        class_features=named.class_features
        if table_from_elsewhere(settings)
        else local_references(named.class_features, root),
        classifier=local_references(named.classifier, root),
    )
    features = tuple(local_references(name, root) for name in settings.discriminator.features)
    return replace(
        settings, conditioning=conditioning, discriminator=replace(settings.discriminator, features=features)
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
