"""The drawn scenes of emoji-scenes: eight kinds, each a little different for every random state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Painter = Callable[["Canvas"], None]


class Canvas:
    """A square RGB image with drawing in units of its side (0 left or top, 1 right or bottom)."""

    def __init__(self, size: int, random: np.random.RandomState) -> None:
        self.size = size
        self.random = random
        self.image = Image.new("RGB", (size, size))
        self.draw = ImageDraw.Draw(self.image)

    def between(self, low: float, high: float) -> float:
        """A uniform random number."""
        return low + (high - low) * self.random.random_sample()

    def vary(self, colour: Colour, amount: int = 10) -> Colour:
        """The colour moved by at most `amount` in brightness and a little in hue."""
        shift = self.between(-amount, amount) + (self.random.random_sample(3) - 0.5) * amount
        red, green, blue = (
            int(min(255, max(0, value + move))) for value, move in zip(colour, shift, strict=True)
        )
        return red, green, blue

    def gradient(self, top: Colour, bottom: Colour, start: float = 0.0, end: float = 1.0) -> None:
        """Fill the rows from `start` to `end` with a vertical gradient."""
        first, last = round(start * self.size), round(end * self.size)
        share = np.linspace(0, 1, max(last - first, 1))[:, None]
        rows = np.array(top) * (1 - share) + np.array(bottom) * share
        strip = Image.fromarray(rows.round().astype(np.uint8)[:, None])
        self.image.paste(strip.resize((self.size, last - first), Image.Resampling.NEAREST), (0, first))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        scale = self.size
        self.draw.rectangle((left * scale, top * scale, right * scale - 1, bottom * scale - 1), fill=colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle."""
        scale = self.size
        self.draw.ellipse(
            ((x - radius) * scale, (y - radius) * scale, (x + radius) * scale, (y + radius) * scale),
            fill=colour,
        )

    def dots(self, count: int, low: float, high: float, radius: float, colour: Colour) -> None:
        """Small discs at random places between the heights `low` and `high`."""
        for x, y in self.random.random_sample((count, 2)):
            self.disc(x, low + (high - low) * y, radius, colour)


def snow(canvas: Canvas) -> None:
    """Pale sky over a white field, with falling snow."""
    horizon = canvas.between(0.55, 0.68)
    canvas.gradient(canvas.vary((150, 195, 232)), canvas.vary((205, 226, 243)), 0, horizon)
    canvas.gradient((250, 252, 254), canvas.vary((228, 237, 246), 6), horizon, 1)
    canvas.dots(20, 0, 1, 0.014, (255, 255, 255))


def beach(canvas: Canvas) -> None:
    """Sky, sea and sand."""
    horizon = canvas.between(0.40, 0.48)
    shore = horizon + canvas.between(0.10, 0.15)
    canvas.gradient(canvas.vary((110, 190, 245)), canvas.vary((165, 220, 250)), 0, horizon)
    canvas.box(0, horizon, 1, shore, canvas.vary((35, 125, 200)))
    canvas.gradient(canvas.vary((238, 218, 160)), canvas.vary((228, 203, 140)), shore, 1)
    canvas.box(0, shore, 1, shore + 0.03, (245, 250, 250))


def night(canvas: Canvas) -> None:
    """A dark sky with stars and a moon."""
    horizon = canvas.between(0.62, 0.72)
    canvas.gradient(canvas.vary((8, 6, 40), 6), canvas.vary((28, 18, 74), 8), 0, horizon)
    canvas.gradient(canvas.vary((12, 24, 38), 5), (6, 12, 20), horizon, 1)
    canvas.dots(16, 0, horizon, 0.012, (205, 205, 200))
    size = canvas.between(0.08, 0.22)
    x = size if canvas.random.random_sample() < 0.5 else 1 - size
    canvas.disc(x, canvas.between(0.10, 0.20), 0.085, (250, 243, 195))


def grass(canvas: Canvas) -> None:
    """Blue sky over a green meadow."""
    horizon = canvas.between(0.52, 0.64)
    canvas.gradient(canvas.vary((95, 165, 250)), canvas.vary((175, 212, 252)), 0, horizon)
    canvas.gradient(canvas.vary((88, 182, 72)), canvas.vary((62, 150, 50)), horizon, 1)
    for x, y in canvas.random.random_sample((7, 2)):
        top = horizon + 0.03 + (0.92 - horizon) * y
        canvas.box(x, top, x + 0.018, top + 0.05, (60, 146, 52))


def city(canvas: Canvas) -> None:
    """A row of grey buildings with lit windows."""
    ground = canvas.between(0.62, 0.72)
    canvas.gradient(canvas.vary((168, 174, 200)), canvas.vary((205, 200, 214)), 0, ground)
    left = -canvas.between(0, 0.1)
    while left < 1:
        width, height = canvas.between(0.10, 0.20), canvas.between(0.18, 0.55)
        shade = int(canvas.between(98, 136))
        canvas.box(left, ground - height, left + width, ground, (shade, shade, shade + 6))
        for column in np.arange(left + 0.03, left + width - 0.03, 0.05):
            for row in np.arange(ground - height + 0.04, ground - 0.04, 0.08):
                if canvas.random.random_sample() < 0.12:
                    canvas.box(column, row, column + 0.022, row + 0.034, (196, 188, 160))
        left += width + canvas.between(0, 0.03)
    canvas.gradient(canvas.vary((92, 88, 98), 6), canvas.vary((74, 72, 82), 6), ground, 1)


def water(canvas: Canvas) -> None:
    """Blue water with waves."""
    canvas.gradient(canvas.vary((62, 158, 222)), canvas.vary((14, 72, 172)))
    width = max(1, round(canvas.size * 0.02))
    for x, y in canvas.random.random_sample((9, 2)):
        for step in (0, 0.09):
            left, top = (x - 0.08 + step) * canvas.size, y * canvas.size
            box = (left, top, left + 0.09 * canvas.size, top + 0.06 * canvas.size)
            canvas.draw.arc(box, 190, 350, fill=(150, 208, 242), width=width)


def desert(canvas: Canvas) -> None:
    """An orange sky over a dune."""
    horizon = canvas.between(0.52, 0.62)
    canvas.gradient(canvas.vary((250, 190, 120)), canvas.vary((253, 216, 150)), 0, horizon)
    canvas.gradient(canvas.vary((214, 152, 74)), canvas.vary((196, 128, 60)), horizon, 1)
    crest = canvas.between(0.1, 0.9)
    height = canvas.between(0.08, 0.14)
    points = [(crest - 0.55, horizon), (crest, horizon - height), (crest + 0.55, horizon)]
    canvas.draw.polygon(
        [(x * canvas.size, y * canvas.size) for x, y in points], fill=canvas.vary((224, 164, 84))
    )


def plain(canvas: Canvas) -> None:
    """One pale colour."""
    pale = PALE[canvas.random.randint(len(PALE))]
    canvas.image.paste(canvas.vary(pale, 4), (0, 0, canvas.size, canvas.size))


PALE: tuple[Colour, ...] = (
    (246, 246, 246),
    (250, 226, 232),
    (228, 240, 226),
    (232, 228, 246),
    (250, 242, 216),
)
"""White, pink, mint, lavender and cream."""

SCENES: dict[str, Painter] = {
    "snow": snow,
    "beach": beach,
    "night": night,
    "grass": grass,
    "city": city,
    "water": water,
    "desert": desert,
    "plain": plain,
}
"""Painter of each scene, in the order of the scene attribute."""


def paint_scene(name: str, size: int, random: np.random.RandomState, *, dark: bool = False) -> Image.Image:
    """Scene `name` as an RGB image of `side` pixels; `dark`: the same place at night, with stars."""
    canvas = Canvas(size, random)
    SCENES[name](canvas)
    if dark:
        pixels = np.asarray(canvas.image, dtype=np.float32) * np.array([0.30, 0.32, 0.52], np.float32)
        canvas.image.paste(Image.fromarray(pixels.astype(np.uint8)))
        canvas.dots(12, 0, 0.35, 0.012, (235, 235, 215))
        canvas.disc(canvas.between(0.1, 0.9), canvas.between(0.09, 0.16), 0.07, (250, 243, 195))
    return canvas.image
