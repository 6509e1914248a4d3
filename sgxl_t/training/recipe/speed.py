"""How fast this machine trains a configuration: some real updates on pictures in memory, nothing kept."""

from __future__ import annotations

import gc
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from sgxl_t.datasets.base import ImageSource, Sample
from sgxl_t.files.memory import is_out_of_memory
from sgxl_t.files.untrusted import read_json
from sgxl_t.ops.images import as_rgb
from sgxl_t.training.build_trainer import build_trainer
from sgxl_t.training.config.compute_config import chosen_backend
from sgxl_t.training.config.config_file import config_from_dict
from sgxl_t.training.local_features.config import FeaturesConfig
from sgxl_t.training.loop.trainer import Trainer
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.pretrained.settle import settle
from sgxl_t.training.recipe import rules
from sgxl_t.training.recipe.choose import Speed

log = logging.getLogger("sgxl_t")

QUIET: dict[str, dict[str, Any]] = {
    "log": {"tensorboard": False, "progress": False, "track_images": 0},
    "conditioning": {"feature_seconds": rules.TRIAL_FEATURE_SECONDS},
    "data": {"num_workers": 0, "mirror": False},
    "objective": {"d_alone_kimg": 0.0},  # updates of the heads alone are two to three times as fast
}
"""Settings of a trial: it writes, tracks and shows nothing."""


class FewPictures(ImageSource):
    """Some samples of a set in memory, at any resolution, with those classes alone that they have."""

    def __init__(self, samples: Sequence[Sample], names: Sequence[str] | None, *, side: int, gray: bool):
        """samples: with images uint8 [C, R, R]. names: of all classes. side: of the images in pixels."""
        seen = sorted({one.label for one in samples if one.label is not None})
        super().__init__(
            resolution=side,
            class_names=tuple(names[label] for label in seen) if names is not None else None,
            has_captions=all(one.caption is not None for one in samples),
        )
        self.gray = gray
        self._samples = [self._resized(one, seen) for one in samples]

    def _resized(self, sample: Sample, seen: Sequence[int]) -> Sample:
        image = F.interpolate(as_rgb(sample.image[None]).float(), self.resolution, mode="nearest")[0].byte()
        label = None if sample.label is None or self.class_names is None else seen.index(sample.label)
        return replace(sample, image=image, label=label)

    def _count(self) -> int:
        return len(self._samples)

    def _read(self, index: int) -> Sample:
        return self._samples[index]

    def fingerprint(self) -> str:
        """Of no set: nothing is kept by it."""
        return "0" * 16


def measure_speed(values: Mapping[str, Any], source: ImageSource, runtime: Runtime) -> Speed | None:
    """Trains the networks of a configuration for some seconds; all processes take part and find the same.

    values: as `TrainConfig.to_dict` gives them. source: pictures in memory, of the configuration's side.
    None where the device has too little memory.
    """
    made = tempfile.mkdtemp(prefix="sgxl_t_trial_") if runtime.is_main else ""
    folder, trainer = Path(runtime.gather_objects(made)[0]), None
    try:
        folder.mkdir(exist_ok=True)
        with _unheard():
            trainer = _trainer(values, source, runtime, folder)
            images = _images_per_second(trainer)
        found = Speed(images=images, feature_seconds=_feature_seconds(folder, str(values["cond"])))
        return runtime.gather_objects(found)[0]  # type: ignore[no-any-return]
    except (MemoryError, RuntimeError) as error:
        if runtime.world_size > 1 or not is_out_of_memory(error):
            raise
        return None
    finally:
        if trainer is not None:
            trainer.data.close()
            trainer.callbacks.close()
        runtime.has_trained = False
        runtime.wait()
        shutil.rmtree(folder, ignore_errors=True)
        del trainer
        gc.collect()
        if runtime.device.type == "cuda":
            torch.cuda.empty_cache()


def _trainer(values: Mapping[str, Any], source: ImageSource, runtime: Runtime, folder: Path) -> Trainer:
    """Of a new run in a folder of its own, ready for its first update."""
    quiet = {group: {**values[group], **changed} for group, changed in QUIET.items()}
    config = config_from_dict({**values, **quiet, "run_dir": str(folder)})
    networks = settle(config.network_settings(), config.to_dict(), folder, runtime)
    config = config.with_networks(networks)
    trainer = build_trainer(config, runtime, folder, source)
    trainer.begin()
    trainer.data.open(trainer.state)
    return trainer


def _images_per_second(trainer: Trainer) -> float:
    with chosen_backend(trainer.settings.compute):
        _seconds_of(trainer, rules.WARM_UPDATES - 1)
        once = trainer.runtime.gather_objects(_seconds_of(trainer, 1))[0]
        updates = round(min(max(rules.TIMED_SECONDS / once, 2), rules.MOST_UPDATES))
        return updates * trainer.settings.images / _seconds_of(trainer, updates)


def _seconds_of(trainer: Trainer, updates: int) -> float:
    began = time.monotonic()
    for _ in range(updates):
        trainer.update(trainer.next_batches())
    if trainer.runtime.device.type == "cuda":
        torch.cuda.synchronize(trainer.runtime.device)
    return time.monotonic() - began


def _feature_seconds(folder: Path, cond: str) -> float:
    """How long the local feature networks would train, by their speed in the trial."""
    report = folder / "features" / "report.json"
    if not report.is_file():
        return 0.0
    figures = read_json(report).group()
    sizes, contrastive, seconds = FeaturesConfig(), cond != "class", 0.0
    for kind in ("cnn", "vit"):  # a CLIP trains together with the CNN
        if kind in figures:
            seconds += sizes.images(kind, contrastive) / max(figures[kind]["images_per_second"], 1e-3)
    return seconds


@contextmanager
def _unheard() -> Iterator[None]:
    """What a run says of itself when it starts is not said of a trial."""
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)
