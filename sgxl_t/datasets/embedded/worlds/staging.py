"""Puts the things of emoji-worlds into a scene: their places, sizes, shadows and reflections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sgxl_t.datasets.embedded.worlds.backdrops import SCENES, Ground
from sgxl_t.datasets.embedded.worlds.painting import Array, Painting, clipped
from sgxl_t.datasets.embedded.worlds.things import sprite, tinted

SHARES = {
    ("large", 1): (0.58, 0.80),
    ("small", 1): (0.34, 0.44),
    ("large", 2): (0.46, 0.54),
    ("large", 3): (0.37, 0.44),
}
"""Side of a sprite as a share of the picture's, by size and number of things."""
TILTED_SHARE, MOST_TILT = 0.4, 12.0
SHADOW = (18, 20, 36)


@dataclass(frozen=True)
class Figure:
    """A thing in a picture: its number, the artist, and the tint, "" for its own colours.

    either_way: it may be mirrored; otherwise it faces as the artist drew it.
    """

    thing: int
    design: str
    colour: str = ""
    either_way: bool = True


@dataclass(frozen=True)
class Place:
    """Where a figure stands: middle and lower edge as shares of the side, and its side in pixels."""

    middle: float
    foot: float
    span: int


def draw_world(
    scene: str, size: str, figures: list[Figure], side: int, random: np.random.RandomState
) -> NDArray[np.uint8]:
    """The picture uint8 [3, side, side] of a scene with one to three figures, the first of them foremost."""
    art = Painting(side, random)
    ground = SCENES[scene](art)
    places = _places(art, ground, size, len(figures))
    # Who stands lower is nearer and covers the others.
    for figure, place in sorted(zip(figures, places, strict=True), key=lambda pair: pair[1].foot):
        _stand(art, ground, place, _pose(art, figure, place.span))
    return np.minimum(np.maximum(art.pixels + 0.5, 0), 255).astype(np.uint8)


def _places(art: Painting, ground: Ground, size: str, count: int) -> list[Place]:
    low, high = SHARES[size, count]
    low, high = (low * 0.94, high * 0.94) if not ground.shade and not ground.mirror else (low, high)
    foot = art.between(ground.low, ground.high)
    places = []
    order = art.random.permutation(count)
    for number in range(count):
        share = art.between(low, high)
        room = 1 - share
        if count == 1:
            middle = 0.5 + room * art.between(-0.36, 0.36)
            lower = foot - (0.0 if size == "large" else art.between(0, 0.08))
        else:
            apart = 0.48 if count == 2 else 0.31
            middle = 0.5 + apart * (order[number] - (count - 1) / 2) + art.between(-0.025, 0.025)
            back = 0.1 if count == 3 and order[number] == 1 else 0.0
            lower = foot - back - art.between(0, 0.05)
        if not ground.shade and not ground.mirror:
            lower = max(share, lower - art.between(0, 1) * max(0.0, lower - share - 0.06))
        places.append(Place(middle, lower, round(share * art.side)))
    return places


def _pose(art: Painting, figure: Figure, span: int) -> Array:
    """Premultiplied pixels float32 [4, H, W] of a figure: mirrored, tilted, in its colour, cut tight."""
    flip, tilt, angle = art.random.random_sample(3)
    image = sprite(figure.thing, figure.design)
    if figure.either_way and flip < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if tilt < TILTED_SHARE:
        image = _tilt(image, (2 * float(angle) - 1) * MOST_TILT)
    span = round(span * image.width / sprite(figure.thing, figure.design).width)
    image = image.resize((span, span), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    solid = pixels[..., 3] > 24
    rows, columns = (np.flatnonzero(solid.any(axis)) for axis in (1, 0))
    tight = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pixels = np.ascontiguousarray(tight.transpose(2, 0, 1), np.float32)
    return tinted(pixels, figure.thing, figure.design, figure.colour) if figure.colour else pixels


def _tilt(image: Image.Image, degrees: float) -> Image.Image:
    """The image turned around its middle, on a square that is an eighth larger on each side."""
    edge = image.width // 8
    wide = Image.new("RGBa", (image.width + 2 * edge, image.height + 2 * edge))
    wide.paste(image, (edge, edge))
    # Pillow turns no premultiplied image, so it is given four bands that mean nothing to it. The reduction
    # that follows leaves no trace of the bilinear filter.
    bands = Image.frombytes("CMYK", wide.size, wide.tobytes()).rotate(degrees, Image.Resampling.BILINEAR)
    return Image.frombytes("RGBa", wide.size, bands.tobytes())


def _stand(art: Painting, ground: Ground, place: Place, pixels: Array) -> None:
    """Lay a figure over the picture, with what it leaves on the ground."""
    height, width = pixels.shape[1:]
    side = art.side
    left = round(place.middle * side - width / 2)
    left = min(max(left, -width // 12), side - width + width // 12)
    top = min(max(round(place.foot * side) - height, 0), side - height)
    if ground.shade:
        _shadow(art, (left + width / 2) / side, (top + height) / side, width / side, ground.shade)
    if ground.mirror:
        _reflect(art, pixels, left, top + height, ground.mirror)
    _lay(art, pixels, left, top)


def _shadow(art: Painting, middle: float, foot: float, width: float, strength: float) -> None:
    """A soft flat ellipse under the lower edge."""
    half, high = width * 0.52, max(width * 0.11, 1.5 / art.side)
    part = art.part(middle - half, foot - 1.5 * high, middle + half, foot + 1.5 * high)
    across = (art.centres[part[1]] - middle) / half
    down = (art.centres[part[0]] - foot + 0.012) / high
    share = clipped(1 - across[None] ** 2 - down[:, None] ** 2 * 0.5)
    art.blend(np.minimum(share * 1.5, 1.15) * strength, SHADOW, part)


def _reflect(art: Painting, pixels: Array, left: int, foot: int, strength: float) -> None:
    """The figure upside down below its lower edge, flattened, fading and swaying."""
    height = max(1, round(pixels.shape[1] * 0.6))
    rows = pixels[:, ::-1][:, (np.arange(height) / 0.6).astype(int).clip(0, pixels.shape[1] - 1)]
    fade = strength * (1 - np.arange(height) / height).astype(np.float32)
    shown = min(height, art.side - foot)
    sway = art.hills(0, 1.6 * art.side / 64, 12)
    for row in range(max(0, shown)):
        shift = round(float(sway[foot + row])) if row > 1 else 0
        _lay(art, rows[:, row : row + 1] * fade[row], left + shift, foot + row)


def _lay(art: Painting, pixels: Array, left: int, top: int) -> None:
    """Premultiplied pixels float32 [4, H, W] over the picture, cut at its edges."""
    height, width = pixels.shape[1:]
    first, last = max(0, -left), min(width, art.side - left)
    if last > first:
        over = pixels[:, : art.side - top, first:last]
        under = art.pixels[:, top : top + height, left + first : left + last]
        under *= 1 - over[3] / 255
        under += over[:3]
