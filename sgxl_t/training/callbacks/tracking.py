"""The numbers of a run: stats.jsonl and TensorBoard events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sgxl_t.files.whole import whole_file
from sgxl_t.training.callbacks.callback import Callback, Line, Snapshot
from sgxl_t.training.callbacks.stats_file import read_stats
from sgxl_t.training.train_state import TrainState


class Tracker(Callback):
    """Writes one JSON line per tick and snapshot to stats.jsonl, and numbers and samples for TensorBoard.

    On resume, lines past the checkpoint are dropped so that no tick stands twice.
    """

    def __init__(self, folder: Path, *, tensorboard: bool) -> None:
        """folder: of the run."""
        self._folder, self._path, self._tensorboard = folder, folder / "stats.jsonl", tensorboard
        self._writer: Any = None

    def on_start(self, state: TrainState) -> None:
        """Opens the files."""
        lines = [line for line in read_stats(self._path) if line["images"] <= state.images_seen]
        with whole_file(self._path) as aside:
            aside.write_text("".join(json.dumps(line) + "\n" for line in lines))
        if self._tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder / "tensorboard"), purge_step=state.images_seen)

    def on_numbers(self, line: Line) -> None:
        """Writes the line of a tick."""
        with self._path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        if self._writer:
            for name, value in line.items():
                self._writer.add_scalar(name, value, int(line["images"]))

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Writes the line of a snapshot, if it has numbers, and shows the sample grid."""
        if self._writer and snapshot.grid is not None:
            self._writer.add_image("samples", snapshot.grid[0], snapshot.images_seen)
        if snapshot.line:
            self.on_numbers(snapshot.line)

    def on_end(self) -> None:
        """Flushes the event file."""
        if self._writer:
            self._writer.close()
