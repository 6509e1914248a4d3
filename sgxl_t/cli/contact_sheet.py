"""Pictures of a data set on one sheet, each with its caption below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP, TEXT_SIZE, LINES, PER_LINE = 8, 11, 3, 22
LINE_HEIGHT = TEXT_SIZE + 3
PAPER, INK = (255, 255, 255), (40, 40, 40)


def contact_sheet(pictures: Sequence[tuple[Image.Image, str]], *, columns: int) -> Image.Image:
    """RGB sheet of equal square pictures, row by row; three lines of caption where any picture has one."""
    side = pictures[0][0].width
    step = side + GAP + (LINES * LINE_HEIGHT if any(caption for _, caption in pictures) else 0)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (GAP + columns * (side + GAP), GAP + rows * step), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_SIZE)
    for number, (picture, caption) in enumerate(pictures):
        x, y = GAP + number % columns * (side + GAP), GAP + number // columns * step
        sheet.paste(picture, (x, y))
        lines = textwrap.wrap(caption, width=PER_LINE, max_lines=LINES, placeholder=" ...")
        for line, text in enumerate(lines):
            draw.text((x, y + side + line * LINE_HEIGHT + 1), text, font=font, fill=INK)
    return sheet
