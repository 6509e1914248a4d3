"""What the scenes of emoji-worlds are made of beside plants: sky, land and houses."""

from __future__ import annotations

import numpy as np

from sgxl_t.datasets.embedded.worlds.painting import WHITE, Array, Colour, Painting, clipped, edge, tuned


def clouds(
    art: Painting, count: int, top: float, bottom: float, strength: float, colour: Colour = WHITE
) -> None:
    """Soft clouds of three to five puffs each, at heights from top to bottom."""
    for _ in range(count):
        x, y, size = art.between(0, 1), art.between(top, max(top, bottom)), art.between(0.05, 0.09)
        puffs = art.random.randint(3, 6)
        places = np.stack(
            [x + size * 1.1 * (np.arange(puffs) - puffs / 2), np.full(puffs, y)], axis=1
        ) + 0.35 * size * (art.random.random_sample((puffs, 2)) - 0.5)
        radii = size * (0.85 + 0.5 * art.random.random_sample(puffs))
        cover, part = art.spots(places, radii, 0.62)
        art.blend(clipped(cover * 1.7 - 0.2) * strength, colour, part)


def speckle(
    art: Painting, places: Array, radius: float, stretch: float, strength: float, colour: Colour
) -> None:
    """Equal soft spots of one colour."""
    cover, part = art.spots(places, np.full(len(places), radius), stretch)
    art.blend(cover * np.float32(strength), colour, part)


def stars(art: Painting, count: int, bottom: float) -> None:
    """Small stars of several sizes and brightnesses down to a height."""
    places = art.scatter(count, 0, bottom)
    sizes = art.random.random_sample(count)
    cover, part = art.spots(places, 0.008 + 0.012 * sizes * sizes * sizes)
    art.blend(cover * art.between(0.75, 0.95), (255, 250, 232), part)


def planet(art: Painting, x: float, y: float, radius: float, colour: Colour) -> None:
    """A planet lit from the upper left, sometimes with bands."""
    art.disc(x, y, radius, tuned(colour, 0.62))
    across, down = art.centres - x, art.centres - y
    inside = clipped((radius - np.sqrt(across[None] ** 2 + down[:, None] ** 2)) * art.side + 0.5)
    lit = clipped(0.55 - (across[None] + down[:, None]) / (2 * radius))
    art.blend((inside * lit).astype(np.float32), tuned(colour, 1.12))
    if art.chance(0.5):
        bands = clipped(art.hills(0.3, 0.6, 9))[:, None] * 0.35
        art.blend((inside * bands).astype(np.float32), tuned(colour, 0.8))


def pebbles(art: Painting, count: int, top: float, colour: Colour) -> None:
    """Small flat spots from a height down."""
    places = art.scatter(count, top, 1)
    speckle(art, places, 0.016, 0.5, 0.7, colour)


def dune(art: Painting, height: float, lit: Colour, shaded: Colour) -> None:
    """A dune with one crest: lit on one side, in its own shadow on the other."""
    crest, rise = art.between(0.05, 0.95), art.between(0.05, 0.13)
    distance = np.abs(art.centres - crest) / art.between(0.5, 0.8)
    line = (height - rise * clipped(1 - distance * (1.4 - 0.4 * distance))).astype(np.float32)
    art.below(line, lit)
    slope = art.between(0.5, 1.4) * (1 if art.chance(0.5) else -1)
    border = crest + slope * (art.centres[:, None] - (height - rise))
    side = (art.centres[None] - border) * (1 if slope > 0 else -1)
    cover = edge(side * art.side * 0.5) * edge((art.centres[:, None] - line) * art.side)
    art.blend(cover.astype(np.float32), shaded)


def peaks(
    art: Painting, base: float, heights: tuple[float, float], dark: Colour, light: Colour, count: int
) -> None:
    """Mountains side by side, each lit on one side and white at its top."""
    for place in range(count):
        x = (place + art.between(0.0, 1.0)) / count
        height = art.between(*heights)
        width = height * art.between(0.8, 1.15)
        top = base - height
        reach = width * (1.1 - top) / height if top < 0 else width * 1.3
        part = art.part(x - reach, top - 0.02, x + reach, base + 0.06)
        down, across = art.centres[part[0], None], art.centres[None, part[1]]
        ragged = 0.02 * art.hills(0, 1.0, 14)[part[0], None]
        half = (down - top) * width / height
        cover = edge((half - np.abs(across - x + ragged * 0.5)) * art.side * 0.8)
        art.blend(cover, dark, part)
        lit = edge((across - x - ragged - (down - top) * 0.12) * -art.side * 0.8)
        art.blend(cover * lit, light, part)
        snowline = top + height * art.between(0.26, 0.36) + art.hills(0, 0.03, 11)[part[1]]
        cap = cover * edge((snowline - down) * art.side)
        art.blend(cap, (236, 242, 250), part)
        art.blend(cap * lit, (255, 255, 255), part)


def skyline(
    art: Painting, ground: float, heights: tuple[float, float], colour: Colour, lit: Colour | None
) -> None:
    """Buildings side by side; lit: the colour of windows, None for none."""
    left = -art.between(0, 0.1)
    while left < 1:
        width, height = art.between(0.11, 0.21), art.between(*heights)
        shade = tuned(colour, art.between(0.9, 1.1))
        art.box(left, ground - height, left + width, ground + 0.02, shade)
        if lit is not None:
            windows(art, (left, ground - height, width, height), lit)
        left += width + art.between(-0.01, 0.04)


def windows(art: Painting, house: tuple[float, float, float, float], colour: Colour) -> None:
    """A grid of windows on a building (left, top, width, height), some of them dark."""
    left, top, width, height = house
    columns, rows = max(1, int(width / 0.06)), max(1, int(height / 0.075))
    across = art.spans(left + width * (np.arange(columns) + 0.5) / columns - 0.013, 0.026)
    down = art.spans(top + 0.03 + 0.075 * np.arange(rows), 0.034)
    on = art.random.random_sample((rows, columns)) < 0.62
    part = art.part(left, top, left + width, top + 0.03 + 0.075 * rows)
    across, down = across[:, part[1]], down[:, part[0]]
    cover = np.zeros((down.shape[1], across.shape[1]), np.float32)
    for row in range(rows):
        if on[row].any():
            np.maximum(cover, down[row][:, None] * across[on[row]].max(0)[None], out=cover)
    art.blend(cover * 0.85, colour, part)
