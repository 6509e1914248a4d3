"""The sprites of emoji-scenes: one sheet of 64 px RGBA images with their names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image

SPRITE_PX = 64

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (245, 210, 40),
    "green": (60, 165, 60),
    "blue": (50, 100, 225),
    "purple": (140, 70, 190),
    "pink": (245, 130, 185),
    "brown": (135, 85, 50),
    "white": (240, 240, 240),
    "grey": (135, 135, 140),
}
"""Tints by name. The names also mark sprite names that say a colour already ("red car")."""


@dataclass(frozen=True)
class Sprite:
    """names: the name and its synonyms; image: premultiplied RGBA, SPRITE_PX square."""

    names: tuple[str, ...]
    image: Image.Image

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]

    @property
    def uncoloured_names(self) -> tuple[str, ...]:
        """Names that say no colour, for tinted sprites; never empty."""
        plain = tuple(name for name in self.names if name.split()[0] not in COLOURS)
        return plain or (self.names[0].split(" ", 1)[1],)


@cache
def load_sprites() -> tuple[Sprite, ...]:
    """All sprites of the package, in their fixed order."""
    folder = files("sgxl_t.datasets.embedded").joinpath("assets")
    table = json.loads(folder.joinpath("sprites.json").read_text(encoding="ascii"))
    with folder.joinpath("sprites.png").open("rb") as file:
        sheet = Image.open(file).convert("RGBa")
    size, columns = table["sprite_px"], table["columns"]
    sprites = []
    for index, entry in enumerate(table["sprites"]):
        row, column = divmod(index, columns)
        left, top = column * size, row * size
        sprites.append(Sprite(tuple(entry["names"]), sheet.crop((left, top, left + size, top + size))))
    return tuple(sprites)


def tint(image: Image.Image, colour: str) -> Image.Image:
    """A premultiplied RGBA image in shades of one colour: black to it to white by brightness."""
    pixels = np.asarray(image, dtype=np.float32)
    alpha = pixels[..., 3:]
    light = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32) / np.maximum(alpha[..., 0], 1)
    # Stretch so that dark and pale sprites both show the colour at its middle.
    solid = light[alpha[..., 0] > 128]
    low, high = np.percentile(solid, [5, 95]) if solid.size else (0.0, 1.0)
    light = np.clip((light - low) / max(float(high - low), 0.15), 0, 1)[..., None]
    target = np.array(COLOURS[colour], np.float32)
    shade = np.where(
        light < 0.6, target * (0.35 + light / 0.6 * 0.65), target + (255 - target) * (light - 0.6) * 1.4
    )
    tinted = np.concatenate([shade * alpha / 255, alpha], axis=-1)
    return Image.fromarray(tinted.round().clip(0, 255).astype(np.uint8), "RGBa")
