"""The sample grid of every snapshot and preview, beside real images of the same conditions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from sgxl_t.conditioning.generate import generate
from sgxl_t.datasets.base import ImageSource
from sgxl_t.files.untrusted import read_json
from sgxl_t.files.whole import whole_file, write_whole
from sgxl_t.ops.random import training_rng
from sgxl_t.training.callbacks.callback import Callback, Snapshot
from sgxl_t.training.callbacks.pictures.shown import Shown, choose_rows
from sgxl_t.training.loop.data import real_images
from sgxl_t.training.train_state import TrainState

SMALLEST, PADDING, GRAY = 64, 2, 128
"""Images of a grid are enlarged to at least so many pixels; pixels between them, and their value."""
REALS, ROWS = "reals.png", "rows.json"
MAX_ROWS = 10_000


class SampleGrid(Callback):
    """samples/fakes_*.png: fixed latents in columns, fixed conditions in rows; samples/reals.png once.

    A row of reals.png holds real images of the condition of the same row; samples/rows.json names them. A
    preview is samples/preview_*.png, which the next grid replaces.

    conditions: one a row, known from the start on, as is real: uint8 [N, 3, R, R], N as in the grid, of any
    condition.
    """

    conditions: Sequence[Any]
    real: Tensor

    def __init__(self, folder: Path, source: ImageSource, *, rows: int, columns: int, seed: int) -> None:
        """folder: of the run. rows, columns: at most so many conditions, latents of each."""
        self._folder, self._source = folder / "samples", source
        self._rows, self._columns, self._seed = rows, columns, seed

    def on_start(self, state: TrainState) -> None:
        """Chooses latents and conditions and writes the grid of real images."""
        self._shown = choose_rows(self._source, state.condition, self._rows, self._columns, self._seed)
        self.conditions = self._shown.conditions
        self._given = [one for one in self.conditions for _ in range(self._columns)]
        self._z = torch.randn(
            len(self._given), state.g.raw.z_dim, generator=training_rng(self._seed, "grid", 0)
        ).to(next(state.ema.network.parameters()).device)
        self.real = real_images(self._source, len(self._given), self._seed)
        save_rows(self._shown, self._folder, columns=self._columns)

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Writes the grid of the averaged generator, without truncation."""
        self._write(snapshot, "fakes")

    def on_preview(self, snapshot: Snapshot) -> None:
        """Writes the same grid under the name of a preview."""
        self._write(snapshot, "preview")

    def name_of(self, number: int) -> str | None:
        """What the image of this number was made from, in words; None where there is no condition."""
        return self._shown.names[number // self._columns]

    def _write(self, snapshot: Snapshot, name: str) -> None:
        path = self._folder / f"{name}_{snapshot.kimg:010.3f}.png"
        snapshot.samples = generate(snapshot.generator, snapshot.condition, self._given, self._z)
        snapshot.grid = save_grid(snapshot.samples, path, columns=self._columns), path
        for older in set(self._folder.glob("preview_*.png")) - {path}:
            older.unlink()


def save_grid(images: Tensor, path: Path, *, columns: int) -> Tensor:
    """images: uint8 [N, 3, R, R], row by row. Writes one PNG whole or not at all; returns it [3, H, W]."""
    scale = max(1, SMALLEST // images.shape[-1])
    enlarged = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    grid = make_grid(enlarged, nrow=columns, padding=PADDING, pad_value=GRAY)
    with whole_file(path) as aside:
        to_pil_image(grid).save(aside, format="PNG")
    return grid


@dataclass(frozen=True)
class RowsOfGrid:
    """What samples/rows.json says: a name per row (None without condition), and columns of both grids."""

    names: tuple[str | None, ...]
    columns: int
    real: tuple[int, ...]
    """Real images in each row of reals.png."""


def save_rows(shown: Shown, folder: Path, *, columns: int) -> None:
    """reals.png and rows.json in `folder`. columns: of the sample grid."""
    widest = max(1, *(len(images) for images in shown.real))
    filled = []
    for images in shown.real:
        gap = images.new_full((widest - len(images), *images.shape[1:]), GRAY)
        filled.append(torch.cat([images, gap]))
    save_grid(torch.cat(filled), folder / REALS, columns=widest)
    table = {"names": shown.names, "columns": columns, "real": [len(images) for images in shown.real]}
    write_whole(folder / ROWS, json.dumps(table, indent=1) + "\n")


def read_rows(folder: Path) -> RowsOfGrid | None:
    """What `save_rows` wrote; None where it is not there or broken, as in runs of earlier versions."""
    try:
        table = read_json(folder / ROWS, way_out="remove it")
        names = [None if row.raw is None else row.text() for row in table["names"].rows(MAX_ROWS)]
        real = [row.integer(0, MAX_ROWS) for row in table["real"].rows(MAX_ROWS)]
        columns = table["columns"].integer(1, MAX_ROWS)
    except (OSError, ValueError):
        return None
    return RowsOfGrid(tuple(names), columns, tuple(real)) if 0 < len(names) == len(real) else None
