"""The metrics that a run follows: those of `sgxl-t evaluate`, at every snapshot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sgxl_t.datasets.base import ImageSource
from sgxl_t.metrics.features.extractor_cache import ExtractorCache
from sgxl_t.metrics.generated import GeneratorImages
from sgxl_t.metrics.protocol import MetricSpec
from sgxl_t.metrics.real_cache import RealCache, RealImages
from sgxl_t.metrics.runner import MetricResult, evaluate
from sgxl_t.training.callbacks.callback import Callback, Snapshot
from sgxl_t.training.train_state import TrainState


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
        return {**finite(results), "protocol": protocol}


def finite(results: Sequence[MetricResult]) -> dict[str, float]:
    """Values by name, of the metrics that could be given."""
    return {one.metric: one.value for one in results if math.isfinite(one.value)}
