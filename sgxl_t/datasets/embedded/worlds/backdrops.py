"""The scenes of emoji-worlds, each different for every random state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sgxl_t.datasets.embedded.worlds.painting import WHITE, Painting, clipped, edge, mixed, tuned
from sgxl_t.datasets.embedded.worlds.plants import cactus, fir, grove, leafy, palm
from sgxl_t.datasets.embedded.worlds.scenery import (
    clouds,
    dune,
    peaks,
    pebbles,
    planet,
    skyline,
    speckle,
    stars,
)


@dataclass(frozen=True)
class Ground:
    """Where things stand in a scene, and what they leave on the ground.

    low, high: heights of the lower edge of a thing, as shares of the side. shade: strength of its shadow.
    mirror: strength of its reflection below that edge.
    """

    low: float = 0.84
    high: float = 0.94
    shade: float = 0.34
    mirror: float = 0.0


def snow(art: Painting) -> Ground:
    """White hills under a winter sky, conifers far away, falling snow."""
    sky, low, far, near = art.choice(
        ((134, 182, 232), (214, 232, 248), (205, 220, 240), (246, 250, 254)),
        ((160, 180, 208), (222, 228, 240), (208, 218, 234), (244, 247, 252)),
        ((122, 140, 205), (246, 206, 212), (206, 204, 230), (238, 240, 252)),
    )
    horizon = art.between(0.48, 0.62)
    art.fill(sky, low, low)
    art.below(art.hills(horizon, 0.07, art.between(1.5, 3)), far, near, depth=0.9)
    for _ in range(art.random.randint(0, 7)):
        x, foot = art.between(0, 1), horizon + art.between(-0.01, 0.09)
        fir(art, x, foot, art.between(0.10, 0.24), art.vary((96, 136, 150), 12), snowy=True)
    art.below(art.hills(horizon + 0.13, 0.05, art.between(1, 2.5)), near, (252, 253, 255), (226, 236, 248))
    flakes = art.scatter(art.random.randint(12, 44), 0, 1)
    cover, part = art.spots(flakes, 0.009 + 0.012 * art.random.random_sample(len(flakes)))
    art.blend(cover * 0.95, WHITE, part)
    return Ground(shade=0.24)


def beach(art: Painting) -> Ground:
    """Sky, a strip of sea with foam, sand."""
    sky, low, deep, shallow, sand = art.choice(
        ((74, 164, 238), (186, 226, 250), (24, 116, 196), (70, 190, 210), (242, 220, 164)),
        ((110, 186, 244), (216, 238, 250), (34, 140, 196), (110, 208, 208), (238, 212, 152)),
        ((240, 150, 120), (252, 214, 160), (70, 110, 170), (150, 170, 190), (234, 196, 148)),
    )
    horizon = art.between(0.36, 0.47)
    shore = art.hills(horizon + art.between(0.13, 0.19), 0.025, art.between(1, 2.5))
    art.fill(sky, low, low)
    if art.chance(0.5):
        art.disc(art.between(0.08, 0.92), art.between(0.08, 0.2), art.between(0.05, 0.09), (255, 242, 176))
    clouds(art, art.random.randint(0, 3), 0.06, horizon - 0.08, 0.8)
    art.below(horizon, deep, shallow, depth=float(shore.max()))
    art.below(shore - 0.018, (250, 252, 250))
    art.below(shore + art.hills(0.012, 0.012, 6), tuned(sand, 0.93), sand, tuned(sand, 0.97))
    pebbles(art, 9, horizon + 0.25, tuned(sand, 0.86))
    if art.chance(0.3):
        palm(art, art.between(0.02, 0.16) if art.chance(0.5) else art.between(0.84, 0.98), horizon + 0.22)
    return Ground()


def night(art: Painting) -> Ground:
    """A dark sky with stars and a moon over a dark hill."""
    top, low, far, near = art.choice(
        ((10, 12, 48), (44, 50, 116), (24, 34, 66), (16, 26, 44)),
        ((18, 10, 52), (78, 50, 122), (36, 28, 72), (20, 20, 46)),
        ((6, 20, 50), (30, 78, 118), (14, 44, 62), (10, 28, 40)),
    )
    horizon = art.between(0.56, 0.70)
    art.fill(top, low, low)
    stars(art, art.random.randint(18, 46), horizon)
    x = art.between(0.1, 0.28) if art.chance(0.5) else art.between(0.72, 0.9)
    y, radius = art.between(0.1, 0.22), art.between(0.06, 0.1)
    art.glow(x, y, radius * 2.2, (150, 160, 220), 0.55)
    art.disc(x, y, radius, (252, 246, 214))
    if art.chance(0.5):
        art.disc(x + radius * 0.3, y - radius * 0.2, radius * 0.24, (232, 224, 186))
        art.disc(x - radius * 0.4, y + radius * 0.3, radius * 0.17, (232, 224, 186))
    art.below(art.hills(horizon - 0.06, 0.07, art.between(1.5, 3)), far)
    art.below(art.hills(horizon + 0.05, 0.05, art.between(1, 2.5)), tuned(far, 0.86), near)
    return Ground(shade=0.45)


def grass(art: Painting) -> Ground:
    """A green meadow under a blue sky, with clouds and flowers."""
    sky, low, far, near, deep = art.choice(
        ((78, 160, 246), (196, 228, 252), (122, 196, 96), (104, 188, 74), (66, 152, 56)),
        ((110, 188, 240), (222, 240, 250), (150, 204, 104), (128, 196, 82), (84, 160, 58)),
        ((130, 176, 232), (250, 232, 196), (146, 186, 92), (116, 172, 70), (78, 138, 52)),
    )
    horizon = art.between(0.46, 0.62)
    art.fill(sky, low, low)
    clouds(art, art.random.randint(0, 4), 0.08, horizon - 0.1, 0.9)
    art.below(art.hills(horizon, 0.06, art.between(1.5, 3)), far)
    art.below(art.hills(horizon + 0.08, 0.05, art.between(1, 2.5)), near, deep)
    blades = art.scatter(art.random.randint(10, 24), horizon + 0.16, 1)
    speckle(art, blades, 0.012, 2.6, 0.5, tuned(deep, 0.84))
    if art.chance(0.6):
        petals = art.scatter(art.random.randint(4, 14), horizon + 0.17, 1)
        colour = (WHITE, (255, 226, 90), (250, 130, 160), (200, 150, 240))[art.random.randint(4)]
        speckle(art, petals, 0.018, 1.0, 1.0, colour)
    return Ground()


def city(art: Painting) -> Ground:
    """A skyline in two rows with windows, and a street."""
    dark = art.chance(0.3)
    if dark:
        sky, low, far, near, road = art.choice(
            ((26, 30, 74), (120, 84, 140), (58, 60, 108), (40, 42, 76), (50, 50, 66)),
            ((30, 44, 90), (230, 140, 120), (84, 70, 110), (52, 48, 80), (58, 56, 70)),
        )
    else:
        sky, low, far, near, road = art.choice(
            ((128, 184, 236), (222, 234, 244), (172, 190, 212), (112, 132, 160), (104, 106, 114)),
            ((172, 190, 214), (232, 226, 226), (190, 190, 204), (138, 130, 146), (110, 106, 110)),
            ((148, 170, 214), (250, 216, 190), (196, 174, 180), (150, 116, 120), (106, 100, 106)),
        )
    ground = art.between(0.66, 0.76)
    art.fill(sky, low, low)
    skyline(art, ground, (0.28, 0.56), far, None)
    skyline(art, ground, (0.12, 0.40), near, (255, 222, 130) if dark else tuned(near, 1.42))
    art.below(ground, tuned(road, 1.35), tuned(road, 1.3))
    art.below(ground + 0.035, road, tuned(road, 0.86))
    for x in np.arange(art.between(-0.2, 0), 1, 0.27):
        art.box(x, 0.955, x + 0.13, 0.978, (226, 222, 206))
    return Ground(0.86, 0.94, 0.4)


def forest(art: Painting) -> Ground:
    """Rows of trees that fade into mist, moss and light between them."""
    mist, far, near, moss, dark = art.choice(
        ((206, 232, 206), (132, 182, 138), (58, 118, 76), (112, 160, 76), (56, 106, 50)),
        ((222, 236, 190), (154, 190, 118), (78, 128, 62), (128, 164, 70), (74, 112, 46)),
        ((182, 216, 216), (104, 160, 150), (40, 100, 88), (86, 142, 84), (42, 92, 58)),
    )
    ground = art.between(0.58, 0.70)
    art.fill(tuned(mist, 0.95), mist, mist)
    if art.chance(0.6):
        art.glow(art.between(0.1, 0.9), art.between(0, 0.25), 0.3, (255, 252, 220), 0.8)
    conifers = art.chance(0.5)
    plant, height = (fir, 0.37) if conifers else (leafy, 0.38)
    for row, (count, colour) in enumerate(((8, far), (5, mixed(far, near, 0.5)), (4, near))):
        rows = [(place + art.between(0.1, 0.9)) / count for place in range(count)]
        foot, tall = ground - 0.03 + 0.03 * row, height + 0.09 * row
        if row < 2:
            grove(art, rows, foot, tall, colour, conifers=conifers)
            continue
        for x in rows:
            if not 0.3 < x < 0.7:
                plant(art, x, foot, tall + art.between(-0.06, 0.06), art.vary(colour, 5))
    art.below(art.hills(ground, 0.03, art.between(2, 4)), moss, dark)
    tufts = art.scatter(16, ground + 0.06, 1)
    speckle(art, tufts, 0.02, 1.4, 0.5, tuned(dark, 0.85))
    return Ground(shade=0.42)


def desert(art: Painting) -> Ground:
    """Dunes with a lit and a shaded side under a hot sky."""
    sky, low, far, lit, shaded = art.choice(
        ((110, 190, 232), (250, 226, 176), (230, 180, 110), (240, 192, 112), (204, 142, 74)),
        ((250, 176, 104), (254, 222, 160), (222, 150, 84), (232, 164, 88), (186, 110, 58)),
        ((232, 150, 130), (252, 210, 170), (212, 140, 100), (226, 156, 100), (176, 104, 74)),
    )
    horizon = art.between(0.46, 0.60)
    art.fill(sky, low, low)
    if art.chance(0.6):
        x, y = art.between(0.1, 0.9), art.between(0.08, 0.24)
        art.glow(x, y, 0.14, (255, 246, 200), 0.7)
        art.disc(x, y, art.between(0.05, 0.08), (255, 248, 214))
    dune(art, horizon, far, tuned(far, 0.88))
    dune(art, horizon + art.between(0.06, 0.12), lit, shaded)
    if art.chance(0.45):
        cactus(art, art.between(0.04, 0.16) if art.chance(0.5) else art.between(0.84, 0.96), horizon + 0.17)
    front = art.hills(horizon + 0.2, 0.04, art.between(1, 2))
    art.below(front, tuned(lit, 1.04), mixed(lit, shaded, 0.35))
    for step in (0.07, 0.15, 0.24):
        line = front + step + art.hills(0, 0.012, 5)
        cover = edge(1.4 - np.abs(art.centres[:, None] - line) * art.side * 64 / max(art.side, 64))
        art.blend((cover * 0.35).astype(np.float32), shaded)
    return Ground()


def sea(art: Painting) -> Ground:
    """Open water to the horizon, with waves."""
    sky, low, deep, near, crest = art.choice(
        ((92, 172, 240), (206, 232, 250), (26, 98, 182), (40, 150, 214), (176, 226, 244)),
        ((120, 196, 236), (230, 244, 248), (18, 118, 158), (48, 178, 190), (186, 238, 232)),
        ((140, 160, 196), (216, 224, 232), (44, 80, 128), (70, 122, 164), (180, 206, 222)),
    )
    horizon = art.between(0.32, 0.46)
    art.fill(sky, low, low)
    clouds(art, art.random.randint(0, 4), 0.06, horizon - 0.06, 0.85)
    art.below(horizon, deep, near)
    count, step = 7, 0.05
    for row in range(count):
        height = horizon + 0.03 + row * step * (1 + row * 0.11)
        line = art.hills(height, 0.006 + 0.004 * row, art.between(4, 7))
        art.below(line, mixed(deep, near, 0.25 + row / count * 0.75), mixed(deep, near, row / count))
        thick = (0.7 + 0.25 * row) * art.side / 64
        gap = clipped(art.hills(0.5, 1.2, 6)) * 0.75
        reach = (thick + 1) / art.side
        part = art.part(0, float(line.min()) - reach, 1, float(line.max()) + reach)
        cover = edge(thick - np.abs(art.centres[part[0], None] - line) * art.side) * gap
        art.blend(cover, crest, part)
    return Ground(0.78, 0.86, 0.0, 0.42)


def mountains(art: Painting) -> Ground:
    """Rocky peaks with snow on top behind a green valley."""
    sky, low, rock, grey, green, deep = art.choice(
        ((86, 158, 232), (212, 232, 248), (118, 134, 166), (152, 164, 190), (124, 178, 92), (86, 146, 66)),
        ((130, 150, 220), (252, 214, 206), (122, 108, 152), (166, 142, 176), (120, 158, 100), (80, 120, 76)),
        ((120, 182, 232), (236, 240, 240), (128, 122, 122), (164, 156, 150), (150, 184, 96), (104, 150, 64)),
    )
    base = art.between(0.60, 0.68)
    art.fill(sky, low, low)
    clouds(art, art.random.randint(0, 3), 0.05, 0.24, 0.8)
    peaks(art, base, (0.26, 0.44), mixed(grey, low, 0.45), tuned(mixed(grey, low, 0.45), 1.04), 3)
    peaks(art, base, (0.16, 0.40), rock, grey, 3)
    art.below(art.hills(base - 0.03, 0.04, art.between(2, 4)), tuned(green, 0.9), green)
    for _ in range(art.random.randint(0, 6)):
        fir(art, art.between(0, 1), base + art.between(0, 0.05), art.between(0.07, 0.14), tuned(deep, 0.62))
    art.below(art.hills(base + 0.08, 0.04, art.between(1, 2)), green, deep)
    return Ground()


def sunset(art: Painting) -> Ground:
    """A low sun over calm water, all in warm colours."""
    top, middle, low, water, deep = art.choice(
        ((94, 58, 140), (232, 96, 110), (255, 196, 110), (200, 96, 110), (70, 44, 104)),
        ((52, 70, 140), (240, 130, 90), (255, 214, 130), (214, 120, 90), (46, 50, 100)),
        ((140, 70, 130), (250, 120, 100), (255, 180, 120), (222, 104, 104), (90, 46, 100)),
    )
    horizon = art.between(0.52, 0.64)
    art.fill(top, middle, low, low)
    x, radius = art.between(0.12, 0.88), art.between(0.1, 0.17)
    y = horizon - radius * art.between(0.0, 0.8)
    art.glow(x, y, radius * 2.4, (255, 224, 150), 0.6)
    art.disc(x, y, radius, (255, 240, 178))
    clouds(art, art.random.randint(0, 4), 0.08, horizon - 0.2, 0.45, mixed(top, middle, 0.6))
    art.below(horizon, water, deep)
    for row in range(8):
        y = horizon + 0.02 + 0.052 * row
        half = radius * art.between(0.35, 1.1)
        shift = x + art.between(-0.03, 0.03)
        across = clipped((half - np.abs(art.centres - shift)) / 0.05)
        down = edge((0.008 + 0.001 * row - np.abs(art.centres - y)) * art.side)
        art.blend((down[:, None] * across[None] * 0.75).astype(np.float32), (255, 226, 160))
    return Ground(0.80, 0.88, 0.0, 0.5)


def space(art: Painting) -> Ground:
    """Black sky with stars, nebulae and a planet."""
    deep, cloud, other = art.choice(
        ((10, 8, 30), (88, 40, 140), (30, 80, 160)),
        ((6, 10, 28), (30, 90, 140), (120, 50, 130)),
        ((16, 6, 26), (150, 50, 110), (60, 50, 160)),
    )
    art.fill(deep, tuned(deep, 1.4), deep)
    art.glow(art.between(0, 1), art.between(0, 1), art.between(0.3, 0.5), cloud, 0.7)
    art.glow(art.between(0, 1), art.between(0, 1), art.between(0.25, 0.4), other, 0.6)
    stars(art, art.random.randint(34, 70), 1)
    for _ in range(1 + art.random.randint(2)):
        colour = ((226, 150, 96), (110, 170, 226), (206, 120, 150), (170, 200, 140))[art.random.randint(4)]
        x = art.between(0.08, 0.24) if art.chance(0.5) else art.between(0.76, 0.92)
        planet(art, x, art.between(0.1, 0.9), art.between(0.07, 0.16), art.vary(colour))
    return Ground(0.72, 0.94, 0.0)


def autumn(art: Painting) -> Ground:
    """Orange and red trees, fallen and falling leaves."""
    sky, low, first, second, ground, deep = art.choice(
        ((150, 190, 224), (244, 232, 210), (226, 130, 50), (204, 78, 46), (214, 166, 84), (172, 112, 52)),
        ((200, 204, 212), (248, 226, 190), (238, 168, 60), (214, 104, 44), (196, 150, 80), (150, 98, 50)),
        ((236, 186, 140), (252, 228, 186), (214, 96, 44), (176, 58, 48), (206, 150, 76), (158, 92, 48)),
    )
    foot = art.between(0.58, 0.68)
    art.fill(sky, low, low)
    art.below(art.hills(foot - 0.14, 0.05, 3), mixed(first, low, 0.55))
    for place in range(5):
        x = (place + art.between(0.1, 0.9)) / 5
        colour = mixed(first, second, art.between(0, 1))
        leafy(art, x, foot + art.between(-0.02, 0.02), art.between(0.36, 0.52), colour)
    art.below(art.hills(foot, 0.03, art.between(1, 3)), ground, deep)
    leaves = art.scatter(art.random.randint(12, 26), foot + 0.05, 1)
    speckle(art, leaves, 0.02, 0.7, 0.9, second)
    leaves = art.scatter(art.random.randint(8, 20), 0.05, 1)
    speckle(art, leaves, 0.017, 0.8, 1.0, first)
    return Ground(shade=0.4)


def room(art: Painting) -> Ground:
    """A wall with a window or a picture, a skirting board and a wooden floor."""
    wall, floor, frame = art.choice(
        ((246, 226, 190), (190, 136, 88), (255, 250, 240)),
        ((190, 218, 214), (176, 128, 90), (250, 250, 246)),
        ((236, 196, 190), (160, 110, 78), (255, 244, 240)),
        ((204, 200, 230), (186, 146, 110), (250, 248, 255)),
    )
    ground = art.between(0.64, 0.74)
    art.fill(tuned(wall, 1.02), wall, tuned(wall, 0.94))
    left = art.between(0.05, 0.12) if art.chance(0.5) else art.between(0.56, 0.63)
    top, width, height = art.between(0.08, 0.14), 0.32, art.between(0.28, 0.36)
    art.box(left - 0.025, top - 0.025, left + width + 0.025, top + height + 0.025, frame)
    art.box(left, top, left + width, top + height, art.vary((150, 204, 244), 14))
    art.box(left, top + height * 0.68, left + width, top + height, art.vary((132, 190, 110), 12))
    art.box(left + width / 2 - 0.012, top, left + width / 2 + 0.012, top + height, frame)
    art.box(left, top + height / 2 - 0.012, left + width, top + height / 2 + 0.012, frame)
    art.below(ground - 0.035, frame)
    art.below(ground, tuned(floor, 0.94), tuned(floor, 1.08))
    y, step = ground + 0.05, 0.055
    while y < 1:
        art.blend(np.repeat(art.span(y, y + 0.008)[:, None], art.side, 1) * 0.6, tuned(floor, 0.8))
        y, step = y + step, step * 1.35
    return Ground(0.86, 0.94, 0.38)


def plain(art: Painting) -> Ground:
    """One soft colour, a little lighter around the middle."""
    colours = (
        (244, 244, 246),
        (252, 214, 222),
        (206, 234, 214),
        (212, 208, 244),
        (252, 234, 180),
        (190, 222, 246),
        (252, 212, 180),
    )
    colour = art.vary(colours[art.random.randint(len(colours))], 5)
    art.fill(tuned(colour, 0.98), tuned(colour, 0.98), tuned(colour, 0.9))
    art.glow(0.5, 0.45, 0.5, tuned(colour, 1.06), 0.8)
    return Ground(0.84, 0.92, 0.26)


SCENES: dict[str, Callable[[Painting], Ground]] = {
    "snow": snow,
    "beach": beach,
    "night": night,
    "grass": grass,
    "city": city,
    "forest": forest,
    "desert": desert,
    "sea": sea,
    "mountains": mountains,
    "sunset": sunset,
    "space": space,
    "autumn": autumn,
    "room": room,
    "plain": plain,
}
"""Painter of each scene, in the order of the scene attribute."""
