"""What people look at while a run goes on: sample grids, and the tracked metrics that choose best/."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from sgxl_t.datasets.base import ImageSource
from sgxl_t.files.whole import whole_file
from sgxl_t.metrics.features.extractor_cache import ExtractorCache
from sgxl_t.metrics.generated import GeneratorImages
from sgxl_t.metrics.plateau import PlateauMonitor
from sgxl_t.metrics.real_cache import RealCache, RealImages
from sgxl_t.metrics.runner import MetricResult, evaluate
from sgxl_t.training.config.config import tracked_specs
from sgxl_t.training.loop.data import open_tracked

if TYPE_CHECKING:
    from sgxl_t.training.loop.trainer import Trainer

log = logging.getLogger("sgxl_t")


def save_grid(pictures: Tensor, path: Path, *, columns: int) -> Tensor:
    """pictures: uint8 [N, 3, R, R], row by row. Writes one PNG whole or not at all; returns it [3, H, W]."""
    scale = max(1, 64 // pictures.shape[-1])
    enlarged = pictures.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    grid = make_grid(enlarged, nrow=columns, padding=2, pad_value=128)
    with whole_file(path) as aside:
        to_pil_image(grid).save(aside, format="PNG")
    return grid


def grid_conditions(source: ImageSource, kind: str, rows: int) -> Sequence[Any]:
    """Conditions of the sample grid, one a row: the first classes, or captions spread over the data."""
    if kind == "class":
        return list(range(min(rows, source.num_classes)))
    if kind == "text":
        step = max(1, len(source) // rows)
        return [source[index].caption or "" for index in range(0, len(source), step)][:rows]
    return [None] * rows


class TrackedMetrics:
    """Metrics at snapshots on fixed samples of the average generator, and the judgement whether they rest.

    The same code measures as in `sgxl-t evaluate`; the first metric orders the snapshots of a run.
    """

    def __init__(self, trainer: Trainer) -> None:
        config, condition = trainer.config, trainer.condition
        if trainer.condition_ema:
            condition = trainer.condition_ema.network
        compared, name = open_tracked(config, trainer.source)
        self.specs = tracked_specs(config.log.metrics, config.log.track_images)
        self.extractors = ExtractorCache(device=trainer.runtime.device)
        self.real = RealImages(compared, name)
        self.cache = RealCache(trainer.folder / "real_side")
        self.generated = GeneratorImages(
            trainer.ema.network,
            condition,
            seed=config.seed,
            class_sampling="dataset",
            source=compared,
            facts={"model": trainer.folder.name},
        )

    def __call__(self) -> list[MetricResult]:
        """All metrics of the average generator as it is now; NaN, with a note, where they cannot be given."""
        return evaluate(
            self.generated, self.specs, {None: self.real}, self.extractors, cache=self.cache, batch_size=64
        )

    def describe(self, results: list[MetricResult]) -> dict[str, Any]:
        """Numbers with their protocol, for a model folder."""
        first = self.extractors.info(self.specs[0])
        counts = ", ".join(f"{one.metric}: {one.spec.n_fake} against {one.n_real}" for one in results)
        protocol = (
            f"generated against pictures of {self.real.reference} ({counts}), psi 1, "
            f"seed {self.generated.seed}, {first.extractor} {first.extractor_hash}, "
            f"data {self.real.fingerprint}"
        )
        numbers = {one.metric: one.value for one in results if math.isfinite(one.value)}
        return {**numbers, "protocol": protocol}


class PlateauWatch:
    """Feeds the first tracked metric to a `PlateauMonitor`, one evaluation per snapshot interval.

    Logged is what is new: a verdict that differs from the one before, also from that of a resumed run.
    """

    def __init__(self, interval_kimg: float) -> None:
        self.interval = interval_kimg * 1000
        self.monitor = PlateauMonitor()
        self.stop = False
        self.reason = "plateau"
        self._last = 0

    def update(self, images_seen: int, value: float, *, ramp: bool) -> None:
        """value: of the tracked metric. ramp: a schedule moves. Snapshots off the interval do not count."""
        position = int(images_seen / self.interval)
        if position <= self._last:
            return
        self._last = position
        decision = self.monitor.update(images_seen / 1000, value, ramp=ramp)
        news = decision.reason != self.reason
        self.stop, self.reason = decision.stop, decision.reason
        if not news:
            return
        trend = f"no trend before {decision.window} snapshots"
        if decision.gain is not None:
            trend = f"gain {decision.gain:.2%} per {decision.window} snapshots"
        noise = "" if decision.noise is None else f", noise {decision.noise:.1%}"
        log.info("plateau: %s, %s%s%s", decision.reason, trend, noise, ", stop" if decision.stop else "")

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "monitor": self.monitor.state_dict(),
            "stop": self.stop,
            "reason": self.reason,
            "last": self._last,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.monitor.load_state_dict(state["monitor"])
        self.stop, self._last = bool(state["stop"]), int(state["last"])
        self.reason = str(state.get("reason", self.reason))
