"""Images of a data set on one sheet, each with its caption below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP, TEXT_SIZE, LINES, PER_LINE = 8, 11, 3, 22
LINE_HEIGHT = TEXT_SIZE + 3
PAPER, INK = (255, 255, 255), (40, 40, 40)


def contact_sheet(images: Sequence[tuple[Image.Image, str]], *, columns: int) -> Image.Image:
    """RGB sheet of equal square images, row by row; three lines of caption where any image has one."""
    resolution = images[0][0].width
    step = resolution + GAP + (LINES * LINE_HEIGHT if any(caption for _, caption in images) else 0)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (GAP + columns * (resolution + GAP), GAP + rows * step), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_SIZE)
    for number, (image, caption) in enumerate(images):
        x, y = GAP + number % columns * (resolution + GAP), GAP + number // columns * step
        sheet.paste(image, (x, y))
        lines = textwrap.wrap(caption, width=PER_LINE, max_lines=LINES, placeholder=" ...")
        for line, text in enumerate(lines):
            draw.text((x, y + resolution + line * LINE_HEIGHT + 1), text, font=font, fill=INK)
    return sheet
