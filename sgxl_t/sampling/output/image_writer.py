"""Pictures put where they were asked for, as they are made: a file each, one grid, a sheet in pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgxl_t.sampling.output.grid import check_grid, labelled_grid
from sgxl_t.sampling.output.image_files import (
    check_file,
    check_writable,
    names_picture,
    picture_names,
    save_png,
)
from sgxl_t.sampling.output.recipe import Drawing, Recipe, refuse_others
from sgxl_t.sampling.output.sheet import page_files, write_sheets
from sgxl_t.sampling.sample_spec import Row, candidates, column_titles

if TYPE_CHECKING:
    from sgxl_t.sampling.pipeline import Picture


@dataclass(frozen=True)
class Album:
    """Where the pictures of rows go. out: a folder for one file each, or the PNG of a single picture; grid,
    sheet: a PNG with labels; None: nowhere.

    sheet_rows: rows on a page of the sheet.
    """

    out: str | Path | None = None
    grid: str | Path | None = None
    sheet: str | Path | None = None
    sheet_rows: int = 32

    def check(self) -> None:
        """Raises ValueError, before anything is made, for places that cannot be written."""
        if self._is_file:
            check_file(str(self.out))
        elif self.out is not None:
            check_writable(self.out)
        if self.grid is not None:
            check_file(self.grid)
        if self.sheet is not None:
            page_files(self.sheet, 1, self.sheet_rows)

    def check_others(self, rows: Sequence[Row], drawing: Drawing, best_of: int = 1) -> None:
        """Raises ValueError where a file is there already and holds pictures that are made otherwise.

        best_of: candidates behind each shot, any of which may be the one that is written.
        """
        refuse_others(self._wanted(rows, drawing, best_of))

    def _wanted(
        self, rows: Sequence[Row], drawing: Drawing, best_of: int
    ) -> Iterator[tuple[Path, list[Recipe]]]:
        """The files of these rows, each with the recipes that it may get."""
        names = self._names(rows, drawing)
        if self.out is not None and Path(self.out).exists():
            tried = [(row, shot) for row in rows for one in row.shots for shot in candidates(one, best_of)]
            if self._is_file:
                yield Path(self.out), [drawing.recipe(shot) for _, shot in tried]
            else:
                for row, shot in tried:
                    yield self._file(names[row.name], shot.seed, shot.psi, drawing), [drawing.recipe(shot)]
        if self.grid is not None:
            yield Path(self.grid), [_together(rows, drawing, best_of)]
        if self.sheet is not None:
            for page, part in zip(self._pages(rows), self._parts(rows), strict=True):
                yield page, [_together(part, drawing, best_of)]

    def write(
        self,
        pictures: Iterable[Picture],
        rows: Sequence[Row],
        drawing: Drawing,
        *,
        side: int,
        best_of: int = 1,
    ) -> Written:
        """Writes the pictures of the rows, which come in their order. side: of one picture, in pixels.

        Files, pages and the grid appear as soon as they are complete. Raises ValueError before the first
        picture is asked for where a grid or page would be too large, and for several pictures in one file.
        """
        labels, titles, written = [row.label for row in rows], column_titles(rows), Written()
        asked = sum(len(row.shots) for row in rows)
        if self._is_file and asked > 1:
            raise ValueError(
                f"--out {self.out} names one file and {asked} pictures were asked for: name a folder, or put "
                f"them into one picture with --grid {self.out}"
            )
        if self.grid is not None:
            check_grid(side, labels, titles)
        kept: list[Picture | None] = []
        cells = self._cells(iter(pictures), rows, drawing, written, kept)
        if self.sheet is not None:
            known = [_together(part, drawing, best_of) for part in self._parts(rows)]
            rows_per_page = self.sheet_rows
            pages = write_sheets(
                cells, labels, titles, self.sheet, side=side, rows_per_page=rows_per_page, recipes=known
            )
            written.sheet = [str(page) for page in pages]
        for _ in cells:  # those that no page took
            pass
        if self.grid is not None:
            written.grid = str(self.grid)
            whole = labelled_grid([one and one.image for one in kept], labels, titles)
            save_png(whole, self.grid, _together(rows, drawing, best_of))
        return written

    def _cells(
        self,
        pictures: Iterator[Picture],
        rows: Sequence[Row],
        drawing: Drawing,
        written: Written,
        kept: list[Picture | None],
    ) -> Iterator[Picture | None]:
        """The pictures, each saved, noted and kept as asked, with None where a row is shorter than others."""
        names, width = self._names(rows, drawing), len(column_titles(rows))
        for row in rows:
            for shot, picture in zip(row.shots, islice(pictures, len(row.shots)), strict=True):
                if self.out is not None:
                    path = self._file(names[row.name], picture.seed, picture.psi, drawing)
                    save_png(picture.image, path, drawing.recipe(replace(shot, seed=picture.seed)))
                    written.pictures.append(note(path, row.name, picture))
                if self.grid is not None:
                    kept.append(picture)
                yield picture
            missing: list[Picture | None] = [None] * (width - len(row.shots))
            if self.grid is not None:
                kept += missing
            yield from missing

    def _file(self, name: str, seed: int, psi: float, drawing: Drawing) -> Path:
        """Where one picture goes."""
        place = Path(str(self.out))
        return place if self._is_file else place / f"{name}{drawing.ending(seed, psi)}.png"

    @staticmethod
    def _names(rows: Sequence[Row], drawing: Drawing) -> dict[str, str]:
        return picture_names([row.name for row in rows], exact=drawing.kind == "text")

    def _pages(self, rows: Sequence[Row]) -> list[Path]:
        return page_files(str(self.sheet), len(rows), self.sheet_rows)

    def _parts(self, rows: Sequence[Row]) -> list[Sequence[Row]]:
        """The rows of each page."""
        return [rows[first : first + self.sheet_rows] for first in range(0, len(rows), self.sheet_rows)]

    @property
    def _is_file(self) -> bool:
        return self.out is not None and names_picture(self.out)


def _together(rows: Sequence[Row], drawing: Drawing, best_of: int) -> Recipe:
    """What a grid of rows is made from."""
    shots = [shot for row in rows for shot in row.shots]
    labels, titles = [row.label for row in rows], column_titles(rows)
    return drawing.together(shots, labels=labels, titles=titles, best_of=best_of)


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
