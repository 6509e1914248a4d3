"""The data of a run: opened as the configuration says, read on from where a checkpoint was."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sgxl_t.datasets.base import Batch, ImageSource, open_source
from sgxl_t.datasets.loading.loader import IndexedBatches, batches
from sgxl_t.datasets.loading.streaming import StreamBatches
from sgxl_t.datasets.shards import Consent, ShardOptions
from sgxl_t.networks.configs import GeneratorConfig
from sgxl_t.training.config.parts import DataConfig
from sgxl_t.training.parallel import watchdog
from sgxl_t.training.parallel.runtime import Runtime

if TYPE_CHECKING:
    from sgxl_t.training.loop.trainer import Trainer

log = logging.getLogger("sgxl_t")

AHEAD_BYTES = 256 * 2**20
"""Pictures that the loader processes of one training process hold ready, at most; shared memory is scarce."""

Positions = list[dict[str, Any]]
"""Where the readers of each rank are, rank after rank, as JSON values."""


def open_data(config: DataConfig, generator: GeneratorConfig) -> ImageSource:
    """The pictures of a run at the side and in the channels of its generator.

    ValueError where there are none or settings do not fit.

    What was rejected, repaired or not used goes to the log.
    """
    source = open_source(
        config.source,
        resolution=generator.img_resolution,
        mirror=config.mirror,
        reject_limit=config.reject_limit,
        shards=ShardOptions(
            order=config.order,
            shuffle_samples=config.shuffle_samples,
            caption_fields=config.caption_fields,
            filter=config.filter,
            fast_jpeg=config.fast_jpeg,
            consent=_consent(config),
        ),
    )
    source.gray = generator.img_channels == 1
    for line in source.rejects.summary():
        log.info("%s: %s", config.source, line)
    return source


def _consent(config: DataConfig) -> Consent:
    # Which settings were typed is known where they are read: parse_config allows the commands among those.
    return Consent(typed=False, allow_pipe=config.allow_pipe)


def open_tracked(
    source: ImageSource, data: DataConfig, track_source: str | None, cond: str
) -> tuple[ImageSource, str]:
    """The data of tracked metrics and its name: `track_source`, or `source` without mirrored images.

    ValueError where track_source has no captions, or other classes than the training data.
    """
    if track_source is None:
        if source.mirror:  # mirrored images are no real ones
            source = copy.copy(source)
            source.mirror = False
        return source, data.source
    shards = ShardOptions(consent=_consent(data))
    tracked = open_source(track_source, resolution=source.resolution, shards=shards)
    tracked.gray = source.gray
    if cond == "text" and not tracked.has_captions:
        raise ValueError(
            f"log.track_source={track_source} has no captions, cond=text needs one per picture: "
            f"{tracked.no_captions or 'put a .txt file beside each picture, or leave the setting out'}"
        )
    if cond == "class" and tracked.class_names != source.class_names:
        raise ValueError(
            f"log.track_source={track_source} has {tracked.num_classes} classes and {data.source} has "
            f"{source.num_classes} or names them otherwise: give both the same classes in the same order"
        )
    return tracked, track_source


class WatchedBatches(Iterator[Batch]):
    """Batches of a run; tells the watchdog when the loop waits for one and when it trains on it."""

    def __init__(self, batches: IndexedBatches | StreamBatches, trainer: Trainer) -> None:
        self.batches, self._trainer = batches, trainer

    def __next__(self) -> Batch:
        update = f"update {self._trainer.iteration + 1}"
        watchdog.beat(f"{update}, reading pictures")
        batch = next(self.batches)
        watchdog.beat(f"{update}, training")
        return batch

    def close(self) -> None:
        """Ends the loader processes."""
        self.batches.close()


def open_loader(trainer: Trainer) -> WatchedBatches:
    """Batches of this process from where the run stands."""
    saved, runtime = trainer.data_positions, trainer.runtime
    position = None
    if saved is not None:  # of another number of processes: the loader finds out and says so
        position = saved[runtime.rank] if len(saved) == runtime.world_size else {}
    opened = batches(
        trainer.source,
        batch_size=trainer.round_images,
        seed=trainer.seed,
        rank=runtime.rank,
        world_size=runtime.world_size,
        images_seen=trainer.images_seen,
        num_workers=trainer.config.data.num_workers,
        caption_dropout=trainer.config.data.caption_dropout,
        position=position,
        ahead=_batches_ahead(trainer),
    )
    return WatchedBatches(opened, trainer)


def _batches_ahead(trainer: Trainer) -> int:
    """Those of the next update, so that it finds them when this one ends."""
    size = trainer.round_images * 3 * trainer.config.generator.img_resolution**2
    return min(trainer.rounds, AHEAD_BYTES // size)


def positions_of(loader: Iterator[Batch] | None, runtime: Runtime) -> Positions | None:
    """Where all ranks are, on every rank; None for data that needs no more than the count of images."""
    if not isinstance(loader, WatchedBatches) or not isinstance(loader.batches, StreamBatches):
        return None
    return runtime.gather_objects(loader.batches.position())
