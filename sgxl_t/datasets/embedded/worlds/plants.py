"""Plants that stand in the scenes of emoji-worlds."""

from __future__ import annotations

import numpy as np

from sgxl_t.datasets.embedded.worlds.painting import WHITE, Colour, Painting, clipped, edge, mixed, tuned

BARK: Colour = (70, 44, 30)
CROWN = np.array([[0, -0.78], [-0.2, -0.62], [0.2, -0.6], [0.0, -0.5]])
"""Middles of the puffs of a tree's crown, in heights of the tree from its foot."""


def fir(art: Painting, x: float, foot: float, height: float, colour: Colour, *, snowy: bool = False) -> None:
    """A fir of three tiers that stands at (x, foot)."""
    part = art.part(x - height * 0.3, foot - height, x + height * 0.3, foot)
    down = art.centres[part[0], None]
    across = np.abs(art.centres[None, part[1]] - x)
    cover = np.zeros((len(down), across.shape[1]), np.float32)
    for tier in range(3):
        top, bottom = foot - height * (1 - tier * 0.24), foot - height * (0.52 - tier * 0.24)
        half = (down - top) / max(bottom - top, 1e-6) * height * (0.15 + 0.055 * tier)
        shape = edge((half - across) * art.side * 0.9) * edge((bottom - down) * art.side)
        np.maximum(cover, shape * (down > top - 0.02), out=cover)
    art.blend(cover, colour, part)
    if snowy:
        art.disc(x, foot - height * 0.9, height * 0.07, WHITE, height * 0.08)


def leafy(art: Painting, x: float, foot: float, height: float, colour: Colour) -> None:
    """A broad tree: a trunk and a crown of a few puffs, lit from above."""
    width = height * 0.07
    art.box(x - width, foot - height * 0.5, x + width, foot + 0.02, mixed(colour, BARK, 0.7))
    crown = CROWN * height + [x, foot] + 0.08 * height * (art.random.random_sample((4, 2)) - 0.5)
    radii = np.array([0.3, 0.27, 0.27, 0.3]) * height
    cover, part = art.spots(crown, radii)
    art.blend(clipped(cover * 3.4 - 1.0), colour, part)
    lights = crown[:2] - 0.05 * height
    cover, part = art.spots(lights, radii[:2] * 0.7)
    art.blend(clipped(cover * 1.4 - 0.5) * 0.35, tuned(colour, 1.35), part)


def grove(
    art: Painting, rows: list[float], foot: float, height: float, colour: Colour, *, conifers: bool
) -> None:
    """Trees of one colour side by side, far away: all crowns are one shape."""
    heights = height + 0.14 * (art.random.random_sample(len(rows)) - 0.5)
    if not conifers:
        trunks = art.spans(np.array(rows) - height * 0.06, height * 0.12).max(0)
        part = art.part(0, foot - height * 0.5, 1, foot + 0.02)
        art.blend(
            art.span(foot - height * 0.5, foot + 0.02)[part[0], None] * trunks, mixed(colour, BARK, 0.7), part
        )
        crowns = np.concatenate([CROWN * tall + [x, foot] for x, tall in zip(rows, heights, strict=True)])
        crowns = crowns + 0.08 * height * (art.random.random_sample(crowns.shape) - 0.5)
        cover, part = art.spots(crowns, np.repeat(heights, 4) * 0.285)
        art.blend(clipped(cover * 3.4 - 1.0), colour, part)
        return
    part = art.part(0, foot - float(heights.max()), 1, foot)
    down = art.centres[part[0]]
    cover = np.zeros((len(down), art.side), np.float32)
    for x, tall in zip(rows, heights.tolist(), strict=True):
        # Half the width at every height: three tiers, each wider than the one above.
        above = (down - (foot - tall)) / tall
        tier = np.minimum((above * 4.2).astype(np.int64), 2)
        half = tall * (above - 0.19 * tier + 0.05 * tier) * 0.34
        shape = edge((half[:, None] - np.abs(art.centres - x)) * art.side * 0.9)
        np.maximum(cover, shape, out=cover)
    art.blend(cover * edge((foot - down) * art.side)[:, None], colour, part)


def palm(art: Painting, x: float, foot: float) -> None:
    """A palm far away: a trunk and a fan of leaves."""
    height = art.between(0.26, 0.36)
    art.box(x - 0.011, foot - height, x + 0.011, foot, (140, 104, 70))
    fan = np.array([[-0.075, 0.015], [0.075, 0.015], [-0.04, -0.03], [0.04, -0.03], [0, 0]])
    places = fan + np.array([x, foot - height])
    cover, part = art.spots(places, np.full(5, 0.055), 0.5)
    art.blend(clipped(cover * 2 - 0.4), art.vary((58, 140, 76)), part)


def cactus(art: Painting, x: float, foot: float) -> None:
    """A cactus with two arms far away."""
    height = art.between(0.14, 0.22)
    colour = art.vary((78, 130, 78))
    for left, top, right, bottom in (
        (-0.02, -height, 0.02, 0),
        (-0.065, -height * 0.75, -0.04, -height * 0.4),
        (-0.065, -height * 0.48, 0, -height * 0.36),
        (0.04, -height * 0.85, 0.065, -height * 0.5),
        (0, -height * 0.58, 0.065, -height * 0.46),
    ):
        art.box(x + left, foot + top, x + right, foot + bottom, colour)
