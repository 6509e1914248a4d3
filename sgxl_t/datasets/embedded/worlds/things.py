"""The things of emoji-worlds: sprites in several designs, their names, and their colours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from sgxl_t.datasets.embedded.worlds.painting import Array, clipped

FOLDER = "sgxl_t.datasets.embedded.worlds"
DESIGNS = ("noto", "twemoji", "blob", "flat", "3d")
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (222, 44, 44),
    "blue": (48, 108, 226),
    "yellow": (246, 206, 44),
    "green": (58, 168, 70),
    "pink": (246, 128, 180),
    "purple": (142, 76, 200),
    "black": (58, 58, 66),
    "white": (238, 240, 244),
}
"""Tints by name."""


@dataclass(frozen=True)
class Thing:
    """names: the plain one first, then synonyms. unseen: synonyms that no training caption uses.

    colours: what its own colour may be called. designs: those it is drawn in, with the colour of `colours`
    that each shows, "" for another one: some artists paint cars blue.
    """

    names: tuple[str, ...]
    unseen: tuple[str, ...]
    colours: tuple[str, ...]
    designs: dict[str, str]

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]

    def names_in(self, colour: str) -> tuple[str, ...]:
        """Names that fit what a design shows. colour: as in `designs`; a word that is said already: "said".

        "red apple" is no green one and "blue red apple" nothing, but every fox is a red fox.
        """
        heads = {name: name.split(" ")[0] for name in self.names}
        wrong = set(COLOURS) if colour == "said" else set(self.colours) - {colour}
        return tuple(name for name in self.names if heads[name] not in wrong)


@cache
def load_things() -> tuple[Thing, ...]:
    """All things of the package, in their fixed order."""
    things = []
    for entry in _table()["things"]:
        names, unseen = entry["names"], tuple(entry["unseen"])
        # Longer ones are definitions ("snowman without snow").
        if entry["cldr"] not in (*names, *unseen) and entry["cldr"].count(" ") < 2:
            names = [*names, entry["cldr"]]
        things.append(Thing(tuple(names), unseen, tuple(entry["colours"]), entry["designs"]))
    return tuple(things)


@cache
def sprite(thing: int, design: str) -> Image.Image:
    """The premultiplied sprite of a thing, square, standing on its lower edge."""
    table = _table()
    row, column = divmod(thing, table["columns"])
    size = table["sprite_px"]
    return _sheet(design).crop((column * size, row * size, (column + 1) * size, (row + 1) * size))


def stored_bytes() -> list[bytes]:
    """Everything that pictures and captions are made of, for a fingerprint."""
    assets = files(FOLDER).joinpath("assets")
    names = [f"{design}.webp" for design in DESIGNS] + ["things.json", "words.json"]
    return [assets.joinpath(name).read_bytes() for name in names]


@cache
def _table() -> dict[str, Any]:
    return json.loads(files(FOLDER).joinpath("assets/things.json").read_text(encoding="ascii"))


@cache
def _sheet(design: str) -> Image.Image:
    with files(FOLDER).joinpath(f"assets/{design}.webp").open("rb") as file:
        return Image.open(file).convert("RGBa")


@cache
def _levels(thing: int, design: str) -> tuple[float, float]:
    """Middle brightness 0..1 of what a tint colours, and how much of the sprite has a colour, 0..1."""
    pixels = np.asarray(sprite(thing, design), np.float64)
    solid = np.ascontiguousarray(pixels[pixels[..., 3] > 200].T[:3]) / 255
    chroma, light = solid.max(0) - solid.min(0), _brightness(solid)
    coloured = chroma > 0.22
    share = float(coloured.mean())
    chosen = light[coloured] if share > 0.35 else light[light > 0.2]
    return (float(np.median(chosen)) if len(chosen) else 0.5), share


def tinted(pixels: Array, thing: int, design: str, colour: str) -> Array:
    """Premultiplied pixels float32 [4, H, W] of a sprite, 0..255, in shades of one colour.

    What has a colour takes the new one, while white faces and black eyes stay; things that are mostly
    white, grey or black take it all over.
    """
    own = pixels[:3] / np.maximum(pixels[3], 1)
    middle, share = _levels(thing, design)
    light = _brightness(own)
    chroma = own.max(0) - own.min(0)
    covered = clipped((chroma - 0.10) / 0.16)
    gray = min(max((0.6 - share) / 0.3, 0.0), 1.0)
    if gray:
        covered = np.maximum(covered, gray * clipped((light - 0.13) / 0.12))
    target = (np.asarray(COLOURS[colour], np.float32) / 255)[:, None, None]
    ratio = light / max(middle, 0.12)
    dark = target * (0.25 + 0.75 * np.minimum(ratio, 1))
    bright = target + (1 - target) * np.minimum(np.maximum((ratio - 1) * 0.55, 0), 0.6)
    mixed = own + covered * (np.where(ratio < 1, dark, bright) - own)
    return np.concatenate([mixed * pixels[3], pixels[3:]])


def _brightness(colours: Array) -> Array:
    return 0.299 * colours[0] + 0.587 * colours[1] + 0.114 * colours[2]
