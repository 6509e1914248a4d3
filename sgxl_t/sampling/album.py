"""Pictures put where they were asked for, as they are made: a file each, one grid, a sheet in pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgxl_t.sampling.files import check_file, check_writable, picture_names, save_png
from sgxl_t.sampling.grid import check_grid, labelled_grid
from sgxl_t.sampling.sheet import page_files, write_sheets
from sgxl_t.sampling.shots import Row, column_titles

if TYPE_CHECKING:
    from sgxl_t.sampling.pipeline import Picture


@dataclass(frozen=True)
class Album:
    """Where the pictures of rows go. folder: one file each; grid, sheet: a PNG with labels; None: nowhere.

    sheet_rows: rows on a page of the sheet.
    """

    folder: str | Path | None = None
    grid: str | Path | None = None
    sheet: str | Path | None = None
    sheet_rows: int = 32

    def check(self) -> None:
        """Raises ValueError, before anything is made, for places that cannot be written."""
        if self.folder is not None:
            check_writable(self.folder)
        if self.grid is not None:
            check_file(self.grid)
        if self.sheet is not None:
            page_files(self.sheet, 1, self.sheet_rows)

    def write(self, pictures: Iterable[Picture], rows: Sequence[Row], *, side: int) -> Written:
        """Writes the pictures of the rows, which come in their order. side: of one picture, in pixels.

        Files, pages and the grid appear as soon as they are complete. Raises ValueError before the first
        picture is asked for where a grid or page would be too large.
        """
        labels, titles, written = [row.label for row in rows], column_titles(rows), Written()
        if self.grid is not None:
            check_grid(side, labels, titles)
        kept: list[Picture | None] = []
        cells = self._cells(iter(pictures), rows, len(titles), written, kept)
        if self.sheet is not None:
            pages = write_sheets(cells, labels, titles, self.sheet, side=side, rows_per_page=self.sheet_rows)
            written.sheet = [str(page) for page in pages]
        for _ in cells:  # those that no page took
            pass
        if self.grid is not None:
            written.grid = str(self.grid)
            save_png(labelled_grid([one and one.image for one in kept], labels, titles), self.grid)
        return written

    def _cells(
        self,
        pictures: Iterator[Picture],
        rows: Sequence[Row],
        width: int,
        written: Written,
        kept: list[Picture | None],
    ) -> Iterator[Picture | None]:
        """The pictures, each saved, noted and kept as asked, with None where a row is shorter than others."""
        names = picture_names([row.name for row in rows])
        several = len({shot.psi for row in rows for shot in row.shots}) > 1
        for row in rows:
            for picture in islice(pictures, len(row.shots)):
                if self.folder is not None:
                    ending = f"-psi{picture.psi:.15g}" if several else ""
                    file = f"{names[row.name]}-seed{picture.seed:04d}{ending}.png"
                    path = save_png(picture.image, Path(self.folder) / file)
                    written.pictures.append(note(path, row.name, picture))
                if self.grid is not None:
                    kept.append(picture)
                yield picture
            missing: list[Picture | None] = [None] * (width - len(row.shots))
            if self.grid is not None:
                kept += missing
            yield from missing


@dataclass
class Written:
    """What an album has written. pictures: file, condition, seed, psi, and score where there is one."""

    pictures: list[dict[str, Any]] = field(default_factory=list)
    grid: str | None = None
    sheet: list[str] = field(default_factory=list)


def note(path: Path, condition: str, picture: Picture) -> dict[str, Any]:
    """What a program wants to know about a picture in a file."""
    facts = {"file": str(path), "condition": condition, "seed": picture.seed, "psi": picture.psi}
    return facts if picture.score is None else {**facts, "score": picture.score}
