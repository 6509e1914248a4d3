"""The data of a run: opened as the configuration says, read on from where a checkpoint was."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sgxl_t.datasets.base import MAX_RESOLUTION, Batch, ImageSource
from sgxl_t.datasets.images.listed import ListedSource
from sgxl_t.datasets.loading.loader import IndexedBatches, batches
from sgxl_t.datasets.loading.options import BatchOptions
from sgxl_t.datasets.loading.streaming import StreamBatches
from sgxl_t.datasets.open import open_source
from sgxl_t.datasets.shards.discover import Consent
from sgxl_t.datasets.shards.source import ShardOptions
from sgxl_t.networks.configs import GeneratorConfig
from sgxl_t.ops.images import as_rgb
from sgxl_t.training.config.parts import DataConfig
from sgxl_t.training.parallel import watchdog
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.train_state import Positions, TrainState

log = logging.getLogger("sgxl_t")

AHEAD_BYTES = 256 * 2**20
"""Images that the loader processes of one training process hold ready, at most: shared memory is scarce."""

SIZES_LOOKED_AT = 1000
"""Images whose sizes are looked up where a set is too large to look at all."""


def open_data(config: DataConfig, generator: GeneratorConfig) -> ImageSource:
    """The images of a run in the resolution and channels of its generator; logs what was rejected.

    ValueError where there are none or settings do not fit.
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


def usual_resolution(source: ImageSource) -> int | None:
    """The largest resolution that the median image fills; None where the sizes of the files are not known."""
    sizes = _sizes(source)
    return _power_of_two_in(*sizes[len(sizes) // 2]) if sizes else None


def _sizes(source: ImageSource) -> list[tuple[int, int]]:
    """Width and height of images, by their shorter side; empty where they are not known, as in shards."""
    sizes = list(source.sizes.elements())
    if not sizes and isinstance(source, ListedSource):
        sizes = source.image_sizes(SIZES_LOOKED_AT)
    return sorted(sizes, key=min)


def size_notes(source: ImageSource) -> list[str]:
    """A line where images are much larger than a run makes them, and one where it enlarges some of them.

    Nothing where the sizes of the files are not known, as in shards.
    """
    if not (sizes := _sizes(source)):
        return []
    made, lines = source.resolution, []
    width, height = sizes[len(sizes) // 2]
    if (fitting := _power_of_two_in(width, height)) > made:
        about = "" if len(set(sizes)) == 1 else "about "
        more = f" (or up to {fitting})" if fitting > 2 * made else ""
        lines.append(
            f"pictures are {about}{width} x {height} px, the run makes {made} px: a new run with "
            f"--resolution {2 * made}{more} shows more of them"
        )
    if smaller := sum(min(size) < made for size in sizes):
        width, height = sizes[0]
        lines.append(
            f"{smaller} of {len(sizes)} pictures are smaller than the {made} px that the run makes (the "
            f"smallest {width} x {height} px) and are enlarged: a new run with --resolution "
            f"{_power_of_two_in(width, height)} enlarges none"
        )
    return lines


def _power_of_two_in(width: int, height: int) -> int:
    """The largest resolution that an image of this size fills."""
    return min(1 << (min(width, height).bit_length() - 1), MAX_RESOLUTION)


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


def real_images(source: ImageSource, count: int, seed: int) -> Tensor:
    """uint8 [N, 3, R, R], chosen by seed, gray ones too: for calibration and the first sample sheet."""
    order: Sequence[int] = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[
        :count
    ].tolist()
    return as_rgb(torch.stack([source[index].image for index in order]))


class TrainingBatches:
    """Batches of this process from where the state stands; `open` comes first, and again after a rollback.

    The watchdog hears when the loop waits for a batch and when it trains on one. waited: seconds that the
    loop has waited for batches so far.
    """

    def __init__(self, source: ImageSource, options: BatchOptions, runtime: Runtime) -> None:
        """options: with the seed of the run and as many batches ahead as an update takes."""
        self.source, self.options, self.runtime = source, options, runtime
        self.waited = 0.0
        self._loader: IndexedBatches | StreamBatches | None = None

    def open(self, state: TrainState) -> None:
        """Starts to load; what was open is closed."""
        self.close()
        saved, runtime = state.data_positions, self.runtime
        position = None
        if saved is not None:  # of another number of processes: the loader finds out and says so
            position = saved[runtime.rank] if len(saved) == runtime.world_size else {}
        most = AHEAD_BYTES // (self.options.batch_size * 3 * self.source.resolution**2)
        options = replace(self.options, seed=state.seed, ahead=min(self.options.ahead, most))
        self._loader = batches(self.source, options, images_seen=state.images_seen, position=position)

    def next(self, iteration: int) -> Batch:
        """The next batch, for the update after so many."""
        assert self._loader is not None, "open comes first"
        watchdog.beat(f"update {iteration + 1}, reading pictures")
        began = time.monotonic()
        batch = next(self._loader)
        self.waited += time.monotonic() - began
        watchdog.beat(f"update {iteration + 1}, training")
        return batch

    def positions(self) -> Positions | None:
        """Where the readers of all ranks are, on every rank; see `TrainState.data_positions`."""
        if not isinstance(self._loader, StreamBatches):
            return None
        return self.runtime.gather_objects(self._loader.position())

    def close(self) -> None:
        """Ends the loader processes."""
        if self._loader is not None:
            self._loader.close()
