"""The metrics that a run follows: those of `sgxl-t evaluate`, at every snapshot."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sgxl_t.datasets.base import ImageSource
from sgxl_t.metrics.features.extractor_cache import ExtractorCache
from sgxl_t.metrics.generated import GeneratorImages
from sgxl_t.metrics.protocol import MetricSpec
from sgxl_t.metrics.real_cache import RealCache, RealImages
from sgxl_t.metrics.runner import MetricResult, evaluate
from sgxl_t.training.callbacks.callback import Callback, Snapshot
from sgxl_t.training.train_state import TrainState

log = logging.getLogger("sgxl_t")


class TrackedMetrics(Callback):
    """Measures the averaged generator on fixed samples; the first metric orders the snapshots of a run."""

    def __init__(
        self,
        folder: Path,
        specs: Sequence[MetricSpec],
        open_compared: Callable[[], tuple[ImageSource, str]],
        *,
        seed: int,
    ) -> None:
        """folder: of the run. open_compared: gives the real images and their name."""
        self._folder, self._specs = folder, specs
        self._open_compared, self._seed = open_compared, seed

    def on_start(self, state: TrainState) -> None:
        """Opens the data to compare with."""
        compared, name = self._open_compared()
        self._extractors = ExtractorCache(device=next(state.ema.network.parameters()).device)
        self._real = RealImages(compared, name)
        self._cache = RealCache(self._folder / "real_side")
        self._floors: dict[str, float] | None = None
        self._generated = GeneratorImages(
            state.ema.network,
            state.averaged_condition,
            seed=self._seed,
            class_sampling="dataset",
            source=compared,
            facts={"model": self._folder.name},
        )

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """All metrics; NaN, with a note, where they cannot be given."""
        results = evaluate(
            self._generated,
            self._specs,
            {None: self._real},
            self._extractors,
            cache=self._cache,
            batch_size=64,
        )
        if self._floors is None:
            self._floors = floors(self._real, self._specs, self._extractors, self._cache)
            if self._real.warning:
                log.warning("tracked metrics: %s", self._real.warning)
        snapshot.floors = self._floors
        snapshot.results, snapshot.metrics = results, self._describe(results)
        snapshot.numbers |= finite(results)

    def _describe(self, results: Sequence[MetricResult]) -> dict[str, Any]:
        """Numbers with their protocol, for a model folder."""
        first = self._extractors.info(self._specs[0])
        counts = ", ".join(f"{one.metric}: {one.spec.n_fake} against {one.n_real}" for one in results)
        protocol = (
            f"generated against pictures of {self._real.reference} ({counts}), psi 1, "
            f"seed {self._generated.seed}, {first.extractor} {first.extractor_hash}, "
            f"data {self._real.fingerprint}"
        )
        described = {**finite(results), "protocol": protocol}
        if self._floors:
            described["real_against_real"] = ", ".join(
                f"{name} {value:.4g}" for name, value in self._floors.items()
            )
        if self._real.warning:
            described["warning"] = self._real.warning
        return described


def finite(results: Sequence[MetricResult]) -> dict[str, float]:
    """Values by name, of the metrics that could be given."""
    return {one.metric: one.value for one in results if math.isfinite(one.value)}


class _OtherReal:
    """Real pictures that follow the first `count` of the fixed order, in the place of generated ones."""

    def __init__(self, real: RealImages, count: int) -> None:
        self._real, self._count = real, count
        self.size = real.source.size

    def check_count(self, count: int) -> None:
        """There are always enough: `floors` asks for at most half of all."""

    def images(self, indices: Sequence[int]) -> Tensor:
        """uint8 [n, 3, H, W]."""
        return self._real.images([self._count + index for index in indices])

    def describe(self) -> dict[str, Any]:
        """Nothing: no result of it is stored."""
        return {}


def floors(
    real: RealImages, specs: Sequence[MetricSpec], extractors: ExtractorCache, cache: RealCache
) -> dict[str, float]:
    """What each metric gives for real pictures against other real ones, by the name of its number.

    Both sides have the counts of the metric where the data has twice as many pictures. With fewer, both
    have half of the data, and a Frechet distance, whose floor shrinks with the counts, is scaled to those of
    the metric. Metrics that compare with no real pictures have none.
    """
    found: dict[str, float] = {}
    for spec in specs:
        n_real = real.count(spec.n_real) if spec.needs_real else 0
        half = min(spec.n_fake, n_real, len(real) // 2)
        if half < 2 or spec.needs_generator or spec.resolution is not None:
            continue
        halved = replace(spec, n_fake=half, n_real=half)
        results = evaluate(
            _OtherReal(real, half), [halved], {None: real}, extractors, cache=cache, batch_size=64
        )
        fewer = half * (1 / spec.n_fake + 1 / n_real) / 2 if spec.reduction == "frechet" else 1.0
        found |= {name: value * fewer for name, value in finite(results).items()}
    return found
