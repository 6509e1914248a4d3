"""emoji-scenes: sprites of everyday things on drawn scenes, with captions, labels and known attributes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from PIL import Image

from sgxl_t.datasets.base import ImageSource, Sample
from sgxl_t.datasets.embedded.scene_captions import SIZES, canonical_caption, draw_caption
from sgxl_t.datasets.embedded.scenes import SCENES, paint_scene
from sgxl_t.datasets.embedded.sprites import COLOURS, SPRITE_PX, Sprite, load_sprites, tint
from sgxl_t.files.content import short_hash

VERSION = 1
"""Raise whenever an image or caption of any index changes."""
DRAWN_PX = 64
"""Images are drawn at this size, or at the asked one where that is larger, and reduced by area."""
SPLITS = ("train", "test", "held_out")
COUNTS = {"subset": (8000, 2000, 960), "whole": (100_000, 4000, 4000)}
SPRITE_SHARE = {"large": (0.66, 0.80), "small": (0.36, 0.44)}
"""Side of the sprite as a share of the image's side."""
TINTED_SHARE, NIGHT_SHARE = 0.4, 0.15

Attributes = tuple[int, ...]


class EmojiScenes(ImageSource):
    """Images such as "a red fox in snow", the same on every machine for (seed, split, index).

    subset: `24x8` takes the first 24 sprites and the first 8 scenes; None takes all and adds tints and night.
    Splits: `train`; `test`, the same sprite-scene pairs in other drawings; `held_out`, the quarter of the
    pairs that never occurs in training (see `is_held_out`). Labels are the sprites.
    """

    def __init__(
        self,
        subset: str | None = None,
        *,
        resolution: int = 32,
        split: str = "train",
        mirror: bool = False,
        seed: int = 0,
    ) -> None:
        num_objects, num_scenes = _parse_subset(subset)
        self.sprites = load_sprites()[:num_objects]
        names = tuple(sprite.name for sprite in self.sprites)
        super().__init__(resolution=resolution, class_names=names, has_captions=True, mirror=mirror)
        if split not in SPLITS:
            raise ValueError(f"emoji-scenes has no split {split!r}: use {', '.join(SPLITS)}")
        self.subset, self.split, self.seed = subset, split, seed
        self.attribute_values: dict[str, tuple[str, ...]] = {
            "object": names,
            "scene": tuple(SCENES)[:num_scenes],
            "size": SIZES,
        }
        if subset is None:
            self.attribute_values |= {"colour": ("own", *COLOURS), "time": ("day", "night")}
        count = COUNTS["whole" if subset is None else "subset"][SPLITS.index(split)]
        tuples = self.attribute_tuples(split)
        # Every tuple occurs equally often; the shuffle makes any leading part a fair sample too.
        order = np.random.RandomState(seed).permutation(count) % len(tuples)
        self._tuples = [tuples[i] for i in order]

    def attributes(self, index: int) -> Attributes:
        """What image `index` shows, as indices into `attribute_values`."""
        index %= self._count()
        attributes = self._tuples[index]
        return attributes if self.subset is not None else self._plan(index)[0]

    def attribute_tuples(self, split: str | None = None) -> list[Attributes]:
        """All (object, scene, size) of a split, this one by default; untinted and by day in the whole set."""
        held_out = (self.split if split is None else split) == "held_out"
        objects, scenes, sizes = (len(self.attribute_values[name]) for name in ("object", "scene", "size"))
        rest = (0,) * (len(self.attribute_values) - 3)
        return [
            (thing, scene, size, *rest)
            for thing in range(objects)
            for scene in range(scenes)
            for size in range(sizes)
            if is_held_out(thing, scene) == held_out
        ]

    def prompt(self, attributes: Attributes) -> str:
        """The plain caption of given attributes, for example "a small fox in snow"."""
        words = self._words(attributes)
        if words["colour"]:
            words["object"] = self.sprites[attributes[0]].uncoloured_names[0]
        return canonical_caption(
            words["object"], words["scene"], words["size"], words["colour"], words["time"]
        )

    def known_labels(self) -> Sequence[int | None]:
        """See `ImageSource.known_labels`."""
        return [attributes[0] for attributes in self._tuples]

    def known_captions(self) -> Iterable[str]:
        """See `ImageSource.known_captions`."""
        for index in range(self._count()):
            attributes, random = self._plan(index)
            yield self._caption(attributes, self._words(attributes), random)

    def fingerprint(self) -> str:
        """Over the settings and the sheet of sprites; see `ImageSource.fingerprint`."""
        sheet = files("sgxl_t.datasets.embedded").joinpath("assets/sprites.png").read_bytes()
        return short_hash(
            "emoji-scenes", VERSION, self.subset, self.split, self.seed, self.resolution, self.mirror, sheet
        )

    def _count(self) -> int:
        return len(self._tuples)

    def _read(self, index: int) -> Sample:
        attributes, random = self._plan(index)
        words = self._words(attributes)
        caption = self._caption(attributes, words, random)
        image = _draw(attributes[0], words, self.resolution, random)
        pixels = np.array(image).transpose(2, 0, 1)
        return Sample(torch.from_numpy(np.ascontiguousarray(pixels)), attributes[0], caption)

    def _caption(self, attributes: Attributes, words: dict[str, str], random: np.random.RandomState) -> str:
        sprite = self.sprites[attributes[0]]
        names = sprite.uncoloured_names if words["colour"] else sprite.names
        return draw_caption(
            names,
            words["scene"],
            words["size"],
            words["colour"],
            words["time"],
            random.random_sample(5).tolist(),
        )

    def _plan(self, index: int) -> tuple[Attributes, np.random.RandomState]:
        """Attributes of an image and the random state that goes on to draw it."""
        random = np.random.RandomState([self.seed, SPLITS.index(self.split), index])
        attributes = self._tuples[index]
        if len(attributes) > 3:
            tinted, dark = random.random_sample(2)
            colour = 1 + random.randint(len(COLOURS))
            at_night = dark < NIGHT_SHARE and self.attribute_values["scene"][attributes[1]] not in (
                "night",
                "plain",
            )
            attributes = (*attributes[:3], int(colour) if tinted < TINTED_SHARE else 0, int(at_night))
        return attributes, random

    def _words(self, attributes: Attributes) -> dict[str, str]:
        values = zip(self.attribute_values.items(), attributes, strict=True)
        words = {"colour": "", "time": "day"} | {name: options[value] for (name, options), value in values}
        if words["colour"] == "own":
            words["colour"] = ""
        return words


def is_held_out(thing: int, scene: int) -> bool:
    """Whether a sprite-scene pair is kept out of training.

    A quarter of the pairs: two of eight scenes for every sprite, and every scene for a quarter of the
    sprites, so each sprite and each scene is seen often in training. Fox in snow (0, 0) is a training pair.
    """
    return (scene + 3 * thing) % 4 == 3


def _parse_subset(subset: str | None) -> tuple[int, int]:
    total, scenes = len(load_sprites()), len(SCENES)
    if subset is None:
        return total, scenes
    match = re.fullmatch(r"(\d{1,4})x(\d{1,2})", subset)
    counts = (int(match[1]), int(match[2])) if match else (0, 0)
    # With fewer than four scenes some sprite would have no held-out scene; with one it could not be trained.
    if not (1 <= counts[0] <= total and 4 <= counts[1] <= scenes):
        raise ValueError(
            f"emoji-scenes:{subset} is not a subset: write sprites x scenes, such as 24x8, with 1 to {total} "
            f"sprites and 4 to {scenes} scenes"
        )
    return counts


@cache
def _tinted(thing: int, colour: str) -> Image.Image:
    """The premultiplied sprite, in its own colours for the empty name."""
    sprite: Sprite = load_sprites()[thing]
    return tint(sprite.image, colour) if colour else sprite.image


def _draw(thing: int, words: dict[str, str], resolution: int, random: np.random.RandomState) -> Image.Image:
    """The RGB image: scene, then the sprite, mirrored half of the time and jittered in size and place."""
    side = max(DRAWN_PX, resolution)
    shares, across, down, flip = random.random_sample(4)
    low, high = SPRITE_SHARE[words["size"]]
    share = low + (high - low) * shares
    image = paint_scene(words["scene"], side, random, dark=words["time"] == "night")
    span = round(share * side)
    sprite = _tinted(thing, words["colour"])
    if flip < 0.5:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if span != SPRITE_PX:
        sprite = sprite.resize((span, span), Image.Resampling.LANCZOS)
    room = side - span
    # Large things stay near the middle; small ones move more, but stand low rather than float at the top.
    left = round(room * (0.5 + (across - 0.5) * 0.7))
    top = round(room * (0.42 + 0.33 * down))
    _paste(image, sprite, left, top)
    return image.reduce(side // resolution) if resolution < side else image


def _paste(image: Image.Image, sprite: Image.Image, left: int, top: int) -> None:
    """Put a premultiplied sprite over an RGB image, in place."""
    over = np.asarray(sprite, dtype=np.uint16)
    box = (left, top, left + sprite.width, top + sprite.height)
    under = np.asarray(image.crop(box), dtype=np.uint16)
    mixed = over[..., :3] + (under * (255 - over[..., 3:]) + 127) // 255
    image.paste(Image.fromarray(mixed.clip(0, 255).astype(np.uint8)), box)
