"""Writes images where they were asked for, as they are made: a file each, one grid, a sheet in pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

from PIL import Image

from sgxl_t.sampling.image import GeneratedImage
from sgxl_t.sampling.output.grid import check_grid, labelled_grid
from sgxl_t.sampling.output.image_files import (
    check_file,
    check_writable,
    image_names,
    names_image,
    save_png,
)
from sgxl_t.sampling.output.recipe import Recipe, Recipes, refuse_overwriting
from sgxl_t.sampling.output.sheet import page_files, write_sheets
from sgxl_t.sampling.sample_spec import Drawable, LatentSpec, candidates, of_chosen
from sgxl_t.sampling.sheets.grid_rows import GridRow, column_titles, grid_lines


@dataclass(frozen=True)
class ImageWriter:
    """Writes the images of rows; None: not written.

    out: a folder for one file each, or the PNG of a single image. grid, sheet: a PNG with labels.
    sheet_rows: lines on a page of the sheet, as rows that are too long for one go on in the next.
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

    def check_existing(self, rows: Sequence[GridRow], recipes: Recipes, best_of: int = 1) -> None:
        """Raises ValueError where a file is there already and holds images that are made otherwise.

        best_of: candidates behind each spec, any of which may be the one that is written.
        """
        refuse_overwriting(self._wanted(rows, recipes, best_of))

    def _wanted(
        self, rows: Sequence[GridRow], recipes: Recipes, best_of: int
    ) -> Iterator[tuple[Path, list[Recipe]]]:
        """The files of these rows, each with the recipes that it may get."""
        names = self._names(rows, recipes)
        if self.out is not None and Path(self.out).exists():
            tried = [(row, spec) for row in rows for one in row.specs for spec in candidates(one, best_of)]
            if self._is_file:
                yield Path(self.out), [recipes.of(spec) for _, spec in tried]
            else:
                for row, spec in tried:
                    yield self._file(names[row.name], spec, recipes), [recipes.of(spec)]
        if self.grid is not None:
            yield Path(self.grid), [_together(grid_lines(rows), recipes, best_of)]
        if self.sheet is not None:
            for page, part in zip(self._pages(rows), self._parts(rows), strict=True):
                yield page, [_together(part, recipes, best_of)]

    def write(
        self,
        images: Iterable[GeneratedImage],
        rows: Sequence[GridRow],
        recipes: Recipes,
        *,
        resolution: int,
        best_of: int = 1,
    ) -> Written:
        """Writes the images of the rows, which come in their order. resolution: of one image, in pixels.

        Files, pages and the grid appear as soon as they are complete. Raises ValueError before the first
        image is asked for where a grid or page would be too large, and for several images in one file.
        """
        lines, written = grid_lines(rows), Written()
        asked = sum(len(row.specs) for row in rows)
        if self._is_file and asked > 1:
            raise ValueError(
                f"--out {self.out} names one file and {asked} images were asked for: name a folder, or put "
                f"them into one image with --grid {self.out}"
            )
        if self.grid is not None:
            check_grid(resolution, *layout(rows, lines))
        made: list[Image.Image | None] = []
        cells = self._cells(iter(images), lines, self._names(rows, recipes), recipes, written, made)
        if self.sheet is not None:
            _, columns, titles = layout(rows, lines)
            parts = self._parts(rows)
            pages = write_sheets(
                cells,
                [line.label for part in parts for line in part],
                columns,
                self.sheet,
                titles=titles,
                resolution=resolution,
                rows_per_page=self.sheet_rows,
                recipes=[_together(part, recipes, best_of) for part in parts],
            )
            written.sheet = [str(page) for page in pages]
        for _ in cells:  # those that no page took
            pass
        if self.grid is not None:
            written.grid = str(self.grid)
            drawn = labelled_grid(made, *layout(rows, lines))
            save_png(drawn, self.grid, _together(lines, recipes, best_of))
        return written

    def _cells(
        self,
        images: Iterator[GeneratedImage],
        lines: Sequence[GridRow],
        names: Mapping[str, str],
        recipes: Recipes,
        written: Written,
        made: list[Image.Image | None],
    ) -> Iterator[GeneratedImage | None]:
        """The cells of the lines, whose images are saved and noted as asked; None where a line is shorter.

        names: of files, by what is shown. made: takes the cells where there is a grid.
        """
        width = max(len(line.specs) for line in lines)
        for line in lines:
            for spec, image in zip(line.specs, islice(images, len(line.specs)), strict=True):
                if self.out is not None:
                    chosen = of_chosen(spec, image)
                    path = self._file(names[line.name], chosen, recipes)
                    save_png(image.image, path, recipes.of(chosen))
                    shown = image.condition if isinstance(spec, LatentSpec) else line.name
                    written.pictures.append(note(path, shown, image))
                if self.grid is not None:
                    made.append(image.image)
                yield image
            gaps = width - len(line.specs)
            if self.grid is not None:
                made.extend(repeat(None, gaps))
            yield from repeat(None, gaps)

    def _file(self, name: str, spec: Drawable, recipes: Recipes) -> Path:
        """Where one image goes."""
        path = Path(str(self.out))
        return path if self._is_file else path / f"{name}{recipes.name_ending(spec)}.png"

    @staticmethod
    def _names(rows: Sequence[GridRow], recipes: Recipes) -> dict[str, str]:
        return image_names([row.name for row in rows], exact=recipes.kind == "text")

    def _pages(self, rows: Sequence[GridRow]) -> list[Path]:
        return page_files(str(self.sheet), len(grid_lines(rows)), self.sheet_rows)

    def _parts(self, rows: Sequence[GridRow]) -> list[Sequence[GridRow]]:
        """The lines of each page; a row that goes on from the page before says again what it shows."""
        lines, label = list(grid_lines(rows)), ""
        for number, line in enumerate(lines):
            label = line.label or label
            if number % self.sheet_rows == 0:
                lines[number] = replace(line, label=label)
        return [lines[first : first + self.sheet_rows] for first in range(0, len(lines), self.sheet_rows)]

    @property
    def _is_file(self) -> bool:
        return self.out is not None and names_image(self.out)


def layout(
    rows: Sequence[GridRow], lines: Sequence[GridRow]
) -> tuple[list[str], list[str], list[tuple[str, ...]]]:
    """Labels, titles of columns, and of every line where a row is wrapped, which leaves columns none."""
    titles = [line.columns for line in lines] if len(lines) > len(rows) else []
    return [line.label for line in lines], column_titles(lines), titles


def _together(rows: Sequence[GridRow], recipes: Recipes, best_of: int) -> Recipe:
    """What a grid of rows is made from."""
    specs = [spec for row in rows for spec in row.specs]
    labels, titles = [row.label for row in rows], column_titles(rows)
    return recipes.of_many(specs, labels=labels, titles=titles, best_of=best_of)


@dataclass
class Written:
    """What was written. pictures: file, condition, seed, psi, and score of each, where there is one."""

    pictures: list[dict[str, Any]] = field(default_factory=list)
    grid: str | None = None
    sheet: list[str] = field(default_factory=list)
    latents: str | None = None


def note(path: Path, condition: str, image: GeneratedImage) -> dict[str, Any]:
    """What a program wants to know about an image in a file."""
    facts = {"file": str(path), "condition": condition, "seed": image.seed, "psi": image.psi}
    return facts if image.score is None else {**facts, "score": image.score}
