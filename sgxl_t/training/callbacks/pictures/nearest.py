"""The training images that samples come nearest to, so that a run that copies its data shows it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from torch import Tensor

from sgxl_t.conditioning.condition import Condition
from sgxl_t.datasets.base import ImageSource, Sample, evenly_spaced
from sgxl_t.files.whole import write_whole
from sgxl_t.metrics.distances.nearest import nearest, reduced, usual_distance
from sgxl_t.ops.images import as_rgb
from sgxl_t.training.callbacks.callback import Callback, Snapshot
from sgxl_t.training.callbacks.sample_grid import SampleGrid, save_grid
from sgxl_t.training.train_state import TrainState

IMAGES, TABLE = "nearest.png", "nearest.json"
MOST, SECONDS = 5000, 1.0
"""Training images that are looked at in all, and how long they are read for at each snapshot."""
SAMPLES, NEAREST = 8, 3


class NearestImages(Callback):
    """samples/nearest.png: a sample a row with the training images nearest to it; samples/nearest.json."""

    def __init__(self, folder: Path, source: ImageSource, grid: SampleGrid) -> None:
        """folder: of the run. grid: comes before this one in the list of callbacks."""
        self._folder, self._source, self._grid = folder / "samples", source, grid

    def on_start(self, state: TrainState) -> None:
        """Chooses the training images, spread over the data; they are read when there are samples."""
        chosen = torch.tensor(evenly_spaced(len(self._source), MOST))
        order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))
        self._coming: list[int] = chosen[order].tolist()
        self._read: list[int] = []
        self._reduced: list[Tensor] = []
        self._usual_of = 0, 0.0

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Compares the samples of the grid."""
        assert snapshot.samples is not None, "the grid comes before"
        self._read_on()
        known = torch.stack(self._reduced)
        rows = evenly_spaced(len(snapshot.samples), SAMPLES)
        samples = snapshot.samples[rows]
        distances, places_of = nearest(reduced(samples), known, NEAREST)
        usual = self._usual(known)
        images, entries = [], []
        for row, sample, ways, places in zip(rows, samples, distances, places_of, strict=True):
            found = [self._source[self._read[place]] for place in places.tolist()]
            images += [sample, *(as_rgb(one.image[None])[0] for one in found)]
            entry = {
                "sample": self._grid.name_of(row),
                "nearest": [_name(one, snapshot.condition) for one in found],
                "distance": float(f"{ways[0]:.4g}"),
            }
            entries.append(entry)
        save_grid(torch.stack(images), self._folder / IMAGES, columns=1 + distances.shape[1])
        table = {
            "kimg": snapshot.kimg,
            "compared": len(known),
            "pictures": len(self._source),
            "usual": float(f"{usual:.4g}"),
            "rows": entries,
        }
        write_whole(self._folder / TABLE, json.dumps(table, indent=1) + "\n")

    def on_preview(self, snapshot: Snapshot) -> None:
        """The same."""
        self.on_snapshot(snapshot)

    def _usual(self, known: Tensor) -> float:
        if self._usual_of[0] != len(known):
            self._usual_of = len(known), usual_distance(known)
        return self._usual_of[1]

    def _read_on(self) -> None:
        """Reads more of the training images, at least one, until time is up or all are there."""
        began = time.monotonic()
        while self._coming and (not self._read or time.monotonic() - began < SECONDS):
            index = self._coming.pop()
            self._read.append(index)
            self._reduced.append(reduced(as_rgb(self._source[index].image[None]))[0])


def _name(sample: Sample, condition: Condition) -> str | None:
    """What a training image is called: its caption or its class; None where the run reads neither."""
    if condition.kind == "text":
        return sample.caption
    return None if condition.kind == "none" or sample.label is None else condition.label(sample.label)
