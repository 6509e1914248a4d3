"""Sample sheets: a row per class or prompt, a column per seed and psi, on as many pages as they need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice, repeat
from pathlib import Path

from sgxl_t.sampling.image import GeneratedImage
from sgxl_t.sampling.output.grid import check_grid, labelled_grid
from sgxl_t.sampling.output.image_files import check_writable, save_png
from sgxl_t.sampling.output.recipe import Recipe


def page_files(file: str | Path, rows: int, rows_per_page: int) -> list[Path]:
    """Where the pages of `rows` rows go: the file itself for one page, else `sheet-1.png`, `sheet-2.png`, ...

    Numbers are padded so that names sort as pages do. ValueError where nothing can be written, where the file
    is a folder or does not end in .png, and for fewer than one row a page.
    """
    file = Path(file)
    if rows_per_page < 1:
        raise ValueError(f"{rows_per_page} rows on a page are too few: use at least 1")
    if file.suffix.lower() != ".png":
        raise ValueError(f"{file} does not end in .png: name the sheet {file.name or 'sheet'}.png")
    if file.is_dir():
        raise ValueError(f"{file} is a folder: name a file, such as {file / 'sheet.png'}")
    check_writable(file.parent)
    pages = max(1, -(-rows // rows_per_page))
    if pages == 1:
        return [file]
    width = len(str(pages))
    return [file.with_name(f"{file.stem}-{page:0{width}d}{file.suffix}") for page in range(1, pages + 1)]


def write_sheets(
    images: Iterable[GeneratedImage | None],
    labels: Sequence[str],
    columns: Sequence[str],
    file: str | Path,
    *,
    resolution: int,
    titles: Sequence[Sequence[str]] = (),
    rows_per_page: int = 32,
    recipes: Sequence[Recipe] | None = None,
) -> list[Path]:
    """Writes the pages and returns their paths.

    images: for every label in order, one image per column or None for a gap; they may come one by one,
        since a page is written as soon as it is full and only its own images are kept.
    resolution: of one image, in pixels.
    titles: of every row's images, in place of those of the columns.
    recipes: what each page is made from, for its file.
    Raises ValueError before the first image is asked for when a page would be too large for one PNG.
    """
    files = page_files(file, len(labels), rows_per_page)
    parts = [slice(page * rows_per_page, (page + 1) * rows_per_page) for page in range(len(files))]
    for part in parts:
        check_grid(resolution, labels[part], columns, titles[part])
    coming, known = iter(images), recipes or repeat(None, len(files))
    for path, part, recipe in zip(files, parts, known, strict=True):
        rows = labels[part]
        cells = [None if one is None else one.image for one in islice(coming, len(rows) * len(columns))]
        save_png(labelled_grid(cells, rows, columns, titles[part]), path, recipe)
    return files
