"""One image that shows many: a row per prompt or class, a column per seed, both labelled."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP, PAD, TEXT_SIZE, MAX_LINES = 4, 8, 14, 4
PAPER, INK = (255, 255, 255), (40, 40, 40)
MAX_SIDE = 32_000


def labelled_grid(
    images: Sequence[Image.Image | None],
    rows: Sequence[str],
    columns: Sequence[str],
    titles: Sequence[Sequence[str]] = (),
    *,
    smallest_cell: int = 96,
) -> Image.Image:
    """RGB image of `len(rows) * len(columns)` equal square images, given row by row; None leaves a gap.

    Small images are enlarged by a whole factor, without smoothing, to at least `smallest_cell` pixels.
    titles: of every row's images, in place of those of the columns.
    Raises ValueError when a side would pass 32,000 pixels.
    """
    assert len(images) == len(rows) * len(columns), "one image per row and column"
    resolution = next(image.width for image in images if image is not None)
    width, height, cell = check_grid(resolution, rows, columns, titles, smallest_cell=smallest_cell)
    font, texts = ImageFont.load_default(TEXT_SIZE), [_wrapped(text) for text in rows]
    left, above = width - PAD - len(columns) * (cell + GAP), PAD + TEXT_SIZE
    step = cell + GAP + (above if titles else 0)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, texts_above in enumerate(titles or [columns]):
        for column, text in enumerate(texts_above):
            place = left + column * (cell + GAP) + cell // 2, PAD + row * step
            draw.text(place, _clipped(text, font, cell), font=font, fill=INK, anchor="ma")
    for row, text in enumerate(texts):
        y = PAD + above + row * step
        draw.multiline_text((PAD, y + cell // 2), text, font=font, fill=INK, anchor="lm")
        for column in range(len(columns)):
            image = images[row * len(columns) + column]
            if image is not None:
                image = image.resize((cell, cell), Image.Resampling.NEAREST)
                sheet.paste(image, (left + column * (cell + GAP), y))
    return sheet


def check_grid(
    resolution: int,
    rows: Sequence[str],
    columns: Sequence[str],
    titles: Sequence[Sequence[str]] = (),
    *,
    smallest_cell: int = 96,
) -> tuple[int, int, int]:
    """Width and height of a grid of images of `resolution` pixels, and the size of its cells, in pixels.

    titles: as for `labelled_grid`.

    Raises ValueError when a side would pass 32,000 pixels.
    """
    cell = resolution * max(1, -(-smallest_cell // resolution))
    font = ImageFont.load_default(TEXT_SIZE)
    lines = [line for text in rows for line in _wrapped(text).split("\n")]
    width = PAD * 3 + max(int(font.getlength(line)) for line in lines) + len(columns) * (cell + GAP)
    height = PAD * 2 + len(rows) * (cell + GAP) + (PAD + TEXT_SIZE) * max(len(titles), 1)
    if max(width, height) > MAX_SIDE:
        raise ValueError(
            f"a grid of {len(rows)} x {len(columns)} images would have {width} x {height} pixels: "
            f"ask for fewer at a time, at most {MAX_SIDE} pixels fit along a side"
        )
    return width, height, cell


def _wrapped(text: str) -> str:
    lines = textwrap.wrap(text, width=24, max_lines=MAX_LINES, placeholder=" ...")
    return "\n".join(lines) or " "


def _clipped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
