"""Painting with smooth edges: a square of float colours whose shapes fade over one pixel.

Every operation is +, -, *, / or a square root, which all machines round alike, so that a picture is the same
everywhere to the bit.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Array = NDArray[np.float32]


class Painting:
    """A square picture in the making: pixels float32 [side, side, 3], colours 0..255.

    Places are shares of the side, 0 left or top. random: the stream that shapes are varied by.
    """

    def __init__(self, side: int, random: np.random.RandomState) -> None:
        self.side = side
        self.random = random
        self.pixels: Array = np.empty((side, side, 3), np.float32)
        self.centres = pixel_centres(side)

    def between(self, low: float, high: float) -> float:
        """A uniform random number."""
        return low + (high - low) * float(self.random.random_sample())

    def chance(self, share: float) -> bool:
        """True in this share of all cases."""
        return float(self.random.random_sample()) < share

    def choice(self, *options: tuple[Colour, ...]) -> tuple[Colour, ...]:
        """One of several palettes, each of its colours moved a little in brightness and hue."""
        chosen = options[self.random.randint(len(options))]
        return tuple(self.vary(colour) for colour in chosen)

    def vary(self, colour: Colour, amount: float = 7) -> Colour:
        """The colour moved by at most about `amount` in brightness and half as much in hue."""
        shift = self.between(-amount, amount)
        red, green, blue = (float(move) * amount for move in self.random.random_sample(3) - 0.5)
        return colour[0] + shift + red, colour[1] + shift + green, colour[2] + shift + blue

    def fill(self, *colours: Colour) -> None:
        """The whole square: a vertical gradient through colours at equal distances."""
        self.pixels[:] = gradient(self.centres, 0, 1, colours)[:, None]

    def blend(self, cover: Array, colour: Colour | Array) -> None:
        """Lay a colour over the picture; cover: float32 [side, side] or [side, 1], 0 none, 1 whole."""
        self.pixels += cover[..., None] * (np.asarray(colour, np.float32) - self.pixels)

    def below(self, line: Array | float, *colours: Colour, depth: float = 0.0) -> None:
        """Everything under a line (float or float32 [side], heights): a gradient from there to the bottom.

        depth: where the gradient ends; 0 for the lower edge.
        """
        start = float(np.min(line))
        cover = edge((self.centres[:, None] - line) * self.side)
        first = max(0, int(start * self.side) - 1)
        shades = gradient(self.centres[first:], start, depth or 1.0, colours)[:, None]
        self.pixels[first:] += cover[first:, :, None] * (shades - self.pixels[first:])

    def hills(self, height: float, swing: float, knots: float) -> Array:
        """A smooth random line, float32 [side]: `knots` bumps across, at most `swing` around `height`."""
        return (height + swing * (2 * noise(self.random, self.centres, knots) - 1)).astype(np.float32)

    def disc(self, x: float, y: float, radius: float, colour: Colour, soft: float = 0.0) -> None:
        """A disc whose edge fades over `soft` and at least one pixel."""
        across, down = self.centres - x, self.centres - y
        distance = np.sqrt(across[None] ** 2 + down[:, None] ** 2)
        width = max(1 / self.side, soft)
        self.blend(np.clip((radius - distance) / width + 0.5, 0, 1), colour)

    def glow(self, x: float, y: float, radius: float, colour: Colour, strength: float = 1.0) -> None:
        """Light around a place that fades without an edge; half of it is left at `radius`."""
        across, down = (self.centres - x) / radius, (self.centres - y) / radius
        square = 1 + across[None] ** 2 + down[:, None] ** 2
        self.blend(strength / (square * square) * 1.0, colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A rectangle with smooth edges."""
        self.blend(self.span(top, bottom)[:, None] * self.span(left, right)[None], colour)

    def span(self, low: float, high: float) -> Array:
        """Cover of a range on one axis, float32 [side]."""
        return edge((self.centres - low) * self.side) * edge((high - self.centres) * self.side)

    def spots(self, places: NDArray[np.float64], radii: NDArray[np.float64], stretch: float = 1.0) -> Array:
        """Cover float32 [side, side] of soft spots at places [N, 2] (x, y); stretch: how much taller."""
        if not len(places):
            return np.zeros((self.side, self.side), np.float32)
        radii = np.maximum(radii, 0.75 / self.side)[:, None]
        across = (self.centres[None] - places[:, :1]) / radii
        down = (self.centres[None] - places[:, 1:]) / (radii * stretch)
        across, down = (np.clip(1 - axis * axis * 0.5, 0, 1).astype(np.float32) for axis in (across, down))
        cover = np.zeros((self.side, self.side), np.float32)
        for column, row in zip(across, down, strict=True):
            inside = np.flatnonzero(column), np.flatnonzero(row)
            if len(inside[0]) and len(inside[1]):
                part = np.s_[inside[1][0] : inside[1][-1] + 1, inside[0][0] : inside[0][-1] + 1]
                np.maximum(cover[part], row[part[0], None] * column[None, part[1]], out=cover[part])
        return cover

    def scatter(self, count: int, top: float, bottom: float) -> NDArray[np.float64]:
        """Random places [count, 2] between two heights."""
        places = self.random.random_sample((count, 2))
        places[:, 1] = top + (bottom - top) * places[:, 1]
        return places


@cache
def pixel_centres(side: int) -> Array:
    """float32 [side], the middle of every pixel."""
    return ((np.arange(side) + 0.5) / side).astype(np.float32)


def edge(pixels: Array) -> Array:
    """Cover 0..1 by the distance inside of an edge, in pixels."""
    return np.clip(pixels + 0.5, 0, 1).astype(np.float32)


def smooth(share: Array) -> Array:
    """The S-curve 3 x^2 - 2 x^3 of values in [0, 1]."""
    return share * share * (3 - 2 * share)


def gradient(places: Array, start: float, end: float, colours: tuple[Colour, ...]) -> Array:
    """Colours float32 [N, 3] at places [N]: the given ones at equal distances from start to end."""
    stops = np.asarray(colours, np.float32)
    if len(stops) == 1:
        return np.repeat(stops, len(places), axis=0)
    share = np.clip((places - start) / max(end - start, 1e-6), 0, 1) * (len(stops) - 1)
    first = np.minimum(share.astype(np.int64), len(stops) - 2)
    rest = (share - first)[:, None]
    return (stops[first] * (1 - rest) + stops[first + 1] * rest).astype(np.float32)


def noise(random: np.random.RandomState, places: Array, knots: float) -> Array:
    """Smooth random values 0..1 at places [N] in [0, 1], about `knots` bumps in all."""
    values = random.random_sample(int(knots) + 3)
    share = places * knots + random.random_sample()
    first = share.astype(np.int64)
    rest = smooth(share - first)
    return values[first] * (1 - rest) + values[first + 1] * rest
