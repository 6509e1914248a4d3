"""The way of an inversion as a picture: loss and PSNR of every photograph against the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from PIL import Image, ImageDraw, ImageFont

from sgxl_t.sampling.inversion.invert import History

WIDTH, HEIGHT, LEFT, GAP = 640, 220, 64, 28
PAPER, INK, GRID = (255, 255, 255), (40, 40, 40), (225, 225, 225)
EACH, MIDDLE = (170, 190, 225), (30, 80, 180)
TEXT_SIZE = 13


def loss_curve(history: History) -> Image.Image:
    """RGB picture of two panels, loss (logarithmic) above PSNR in dB; ValueError without any step.

    Thin lines are photographs, the thick one their median. Vertical lines part the phases.
    """
    if not history.phases:
        raise ValueError("no step was made, so there is no curve: ask for more than 0 steps")
    logs = [[math.log10(max(one, 1e-6)) for one in row] for row in history.losses]
    picture = Image.new("RGB", (WIDTH, 2 * HEIGHT), PAPER)
    draw = ImageDraw.Draw(picture)
    lengths = [(name, len(list(steps))) for name, steps in groupby(history.phases)]
    _panel(draw, 0, "loss", logs, lengths, lambda value: f"{10**value:.2g}")
    _panel(draw, HEIGHT, "PSNR, dB", history.psnr, lengths, lambda value: f"{value:.0f}")
    return picture


def _panel(
    draw: ImageDraw.ImageDraw,
    top: int,
    title: str,
    rows: Sequence[Sequence[float]],
    phases: Sequence[tuple[str, int]],
    written: object,
) -> None:
    """One panel at `top`: a line for each column of the rows."""
    assert callable(written)
    font = ImageFont.load_default(TEXT_SIZE)
    low, high = min(map(min, rows)), max(map(max, rows))
    high = high if high > low else low + 1
    above, below = top + GAP, top + HEIGHT - GAP

    def place(step: int, value: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - 12) * step / max(len(rows) - 1, 1)
        return across, below - (below - above) * (value - low) / (high - low)

    draw.text((LEFT, top + 8), title, font=font, fill=INK)
    for part in range(5):
        value = low + (high - low) * part / 4
        _, y = place(0, value)
        draw.line([(LEFT, y), (WIDTH - 12, y)], fill=GRID)
        draw.text((LEFT - 6, y), written(value), font=font, fill=INK, anchor="rm")
    start = 0
    for name, steps in phases:
        x, _ = place(start, low)
        draw.line([(x, above), (x, below)], fill=GRID, width=2)
        draw.text((x + 3, below + 4), f"{name} from step {start}", font=font, fill=INK)
        start += steps
    for column in range(len(rows[0])):
        draw.line([place(step, row[column]) for step, row in enumerate(rows)], fill=EACH)
    middle = [sorted(row)[len(row) // 2] for row in rows]
    draw.line([place(step, value) for step, value in enumerate(middle)], fill=MIDDLE, width=2)
