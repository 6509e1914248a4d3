"""Painting with smooth edges: a square of float colours whose shapes fade over one pixel.

A picture is drawn a few hundred times a second, so shapes touch no more of it than they cover.

Every operation is +, -, *, / or a square root, which all machines round alike, so that a picture is the same
everywhere to the bit.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
WHITE: Colour = (255, 255, 255)
Array = NDArray[np.floating[Any]]
Part = tuple[slice, slice]
"""Rows and columns."""
NONE, HALF, ALL = np.float32(0), np.float32(0.5), np.float32(1)
AROUND = np.array([-1, 2])
WHOLE: Part = (slice(None), slice(None))


class Painting:
    """A square picture in the making: pixels float32 [3, side, side], colours 0..255.

    Places are shares of the side, 0 left or top. random: the stream that shapes are varied by.
    """

    def __init__(self, side: int, random: np.random.RandomState) -> None:
        self.side = side
        self.random = random
        self.pixels: Array = np.empty((3, side, side), np.float32)
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
        self.pixels[:] = gradient(self.centres, 0, 1, colours)[..., None]

    def blend(self, cover: Array, colour: Colour, part: Part = WHOLE) -> None:
        """Lay a colour over a part of the picture; cover: float32 of its shape, 0 none, 1 whole."""
        target = self.pixels[:, part[0], part[1]]
        target += cover * (np.array(colour, np.float32).reshape(3, 1, 1) - target)

    def part(self, left: float, top: float, right: float, bottom: float) -> Part:
        """The rows and columns of a rectangle and two pixels around it, none outside the picture."""
        rows, columns = (
            slice(max(0, int(low * self.side) - 2), max(0, int(high * self.side) + 3))
            for low, high in ((top, bottom), (left, right))
        )
        return rows, columns

    def below(self, line: Array | float, *colours: Colour, depth: float = 0.0) -> None:
        """Everything under a line (float or float32 [side], heights): a gradient from there to the bottom.

        depth: where the gradient ends; 0 for the lower edge.
        """
        start = float(np.min(line))
        first = max(0, int(start * self.side) - 1)
        cover = edge((self.centres[first:, None] - line) * self.side)
        target = self.pixels[:, first:]
        if len(colours) > 1:
            shades = gradient(self.centres[first:], start, depth or 1.0, colours)[..., None]
        else:
            shades = np.asarray(colours[0], np.float32)[:, None, None]
        target += cover * (shades - target)

    def hills(self, height: float, swing: float, knots: float) -> Array:
        """A smooth random line, float32 [side]: `knots` bumps across, at most `swing` around `height`."""
        return (height + swing * (2 * noise(self.random, self.centres, knots) - 1)).astype(np.float32)

    def disc(self, x: float, y: float, radius: float, colour: Colour, soft: float = 0.0) -> None:
        """A disc whose edge fades over `soft` and at least one pixel."""
        part = self.part(x - radius - soft, y - radius - soft, x + radius + soft, y + radius + soft)
        across, down = self.centres[part[1]] - x, self.centres[part[0]] - y
        distance = np.sqrt(across[None] ** 2 + down[:, None] ** 2)
        width = max(1 / self.side, soft)
        self.blend(clipped((radius - distance) / width + 0.5), colour, part)

    def glow(self, x: float, y: float, radius: float, colour: Colour, strength: float = 1.0) -> None:
        """Light around a place that fades without an edge; half of it is left at `radius`."""
        across, down = (self.centres - x) / radius, (self.centres - y) / radius
        square = 1 + across[None] ** 2 + down[:, None] ** 2
        self.blend(strength / (square * square), colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A rectangle with smooth edges."""
        part = self.part(left, top, right, bottom)
        down, across = self.span(top, bottom)[part[0]], self.span(left, right)[part[1]]
        self.blend(down[:, None] * across[None], colour, part)

    def span(self, low: float, high: float) -> Array:
        """Cover of a range on one axis, float32 [side]."""
        return self.spans(np.array([low]), high - low)[0]

    def spans(self, lows: Array, length: float) -> Array:
        """Cover of ranges of one length on one axis, float32 [N, side]."""
        inside = (self.centres[None] - lows[:, None]) * self.side
        return edge(inside) * edge(length * self.side - inside)

    def spots(self, places: Array, radii: Array, stretch: float = 1.0) -> tuple[Array, Part]:
        """Cover of soft spots at places [N, 2] (x, y), and the part of the picture it is for.

        stretch: how much taller than wide they are.
        """
        if not len(places):
            return np.zeros((0, 0), np.float32), (slice(0, 0), slice(0, 0))
        radii = np.maximum(radii, 0.75 / self.side)[:, None]
        axes, ends, part = [], [], []
        for axis, size in ((1, radii * stretch), (0, radii)):
            middle = places[:, axis : axis + 1]
            reach = np.concatenate([middle - size * 1.5, middle + size * 1.5], axis=1) * self.side
            whole = np.minimum(np.maximum(reach.astype(np.int64) + AROUND, 0), self.side)
            low, high = int(whole[:, 0].min()), int(whole[:, 1].max())
            distance = ((self.centres[None, low:high] - middle) / size).astype(np.float32)
            axes.append(clipped(1 - distance * distance * np.float32(0.5)))
            ends.append((whole - low).tolist())
            part.append(slice(low, high))
        cover = np.zeros([end.stop - end.start for end in part], np.float32)
        for row, column, (top, bottom), (left, right) in zip(*axes, *ends, strict=True):
            target = cover[top:bottom, left:right]
            np.maximum(target, row[top:bottom, None] * column[None, left:right], out=target)
        return cover, (part[0], part[1])

    def scatter(self, count: int, top: float, bottom: float) -> Array:
        """Random places [count, 2] between two heights."""
        places = self.random.random_sample((count, 2))
        places[:, 1] = top + (bottom - top) * places[:, 1]
        return places


def clipped(values: Array) -> Array:
    """Values brought into [0, 1]; half the time of np.clip for small arrays."""
    return np.minimum(np.maximum(values, NONE), ALL)


@cache
def pixel_centres(side: int) -> Array:
    """float32 [side], the middle of every pixel."""
    return ((np.arange(side) + 0.5) / side).astype(np.float32)


def edge(pixels: Array) -> Array:
    """Cover 0..1 by the distance inside of an edge, in pixels."""
    return clipped(pixels + HALF).astype(np.float32, copy=False)


def smooth(share: Array) -> Array:
    """The S-curve 3 x^2 - 2 x^3 of values in [0, 1]."""
    return share * share * (3 - 2 * share)


def gradient(places: Array, start: float, end: float, colours: tuple[Colour, ...]) -> Array:
    """Colours float32 [3, N] at places [N]: the given ones at equal distances from start to end."""
    stops = np.asarray(colours, np.float32)
    if len(stops) == 1:
        return np.repeat(stops.T, len(places), axis=1)
    share = clipped((places - start) / max(end - start, 1e-6)) * (len(stops) - 1)
    first = np.minimum(share.astype(np.int64), len(stops) - 2)
    rest = (share - first)[:, None]
    return (stops[first] * (1 - rest) + stops[first + 1] * rest).T.astype(np.float32)


def noise(random: np.random.RandomState, places: Array, knots: float) -> Array:
    """Smooth random values 0..1 at places [N] in [0, 1], about `knots` bumps in all."""
    values = random.random_sample(int(knots) + 3)
    share = places * knots + random.random_sample()
    first = share.astype(np.int64)
    rest = smooth(share - first)
    return values[first] * (1 - rest) + values[first + 1] * rest


def tuned(colour: Colour, factor: float) -> Colour:
    """The colour made brighter or darker."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """The colour at this share of the way from the first to the second."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue
