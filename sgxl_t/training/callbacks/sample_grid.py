"""The sample grid of every snapshot and preview, beside real images of the same size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from sgxl_t.conditioning.generate import generate
from sgxl_t.datasets.base import ImageSource
from sgxl_t.files.whole import whole_file
from sgxl_t.ops.random import training_rng
from sgxl_t.training.callbacks.callback import Callback, Snapshot
from sgxl_t.training.loop.data import real_images
from sgxl_t.training.train_state import TrainState


class SampleGrid(Callback):
    """samples/fakes_*.png: fixed latents in columns, fixed conditions in rows; samples/reals.png once.

    A preview is samples/preview_*.png, which the next grid replaces.

    conditions: one a row, known from the start on, as is real: uint8 [N, 3, R, R], N as in the grid.
    """

    conditions: Sequence[Any]
    real: Tensor

    def __init__(self, folder: Path, source: ImageSource, *, rows: int, columns: int, seed: int) -> None:
        """folder: of the run. rows, columns: at most so many conditions, latents of each."""
        self._folder, self._source = folder / "samples", source
        self._rows, self._columns, self._seed = rows, columns, seed

    def on_start(self, state: TrainState) -> None:
        """Chooses latents and conditions and writes the grid of real images."""
        self.conditions = grid_conditions(self._source, state.condition.kind, self._rows)
        self._given = [one for one in self.conditions for _ in range(self._columns)]
        self._z = torch.randn(
            len(self._given), state.g.raw.z_dim, generator=training_rng(self._seed, "grid", 0)
        ).to(next(state.ema.network.parameters()).device)
        self.real = real_images(self._source, len(self._given), self._seed)
        save_grid(self.real, self._folder / "reals.png", columns=self._columns)

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Writes the grid of the averaged generator, without truncation."""
        self._write(snapshot, "fakes")

    def on_preview(self, snapshot: Snapshot) -> None:
        """Writes the same grid under the name of a preview."""
        self._write(snapshot, "preview")

    def _write(self, snapshot: Snapshot, name: str) -> None:
        path = self._folder / f"{name}_{snapshot.kimg:010.3f}.png"
        images = generate(snapshot.generator, snapshot.condition, self._given, self._z)
        snapshot.grid = save_grid(images, path, columns=self._columns), path
        for older in set(self._folder.glob("preview_*.png")) - {path}:
            older.unlink()


def save_grid(images: Tensor, path: Path, *, columns: int) -> Tensor:
    """images: uint8 [N, 3, R, R], row by row. Writes one PNG whole or not at all; returns it [3, H, W]."""
    scale = max(1, 64 // images.shape[-1])
    enlarged = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
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
