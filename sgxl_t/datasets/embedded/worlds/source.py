"""emoji-worlds: everyday things by several artists on drawn scenes, with captions, labels and attributes."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image

from sgxl_t.datasets.base import ImageSource, Sample
from sgxl_t.datasets.embedded.worlds.backdrops import SCENES
from sgxl_t.datasets.embedded.worlds.staging import Figure, draw_world
from sgxl_t.datasets.embedded.worlds.things import COLOURS, DESIGNS, load_things, stored_bytes
from sgxl_t.datasets.embedded.worlds.words import Shown, draw_caption, plain_caption, word_table
from sgxl_t.files.content import short_hash

VERSION = 1
"""Raise whenever an image or caption of any index changes."""
DRAWN_PX = 64
"""Images are drawn at this size, or at the asked one where that is larger, and reduced by area."""
SPLITS = ("train", "test", "held_out", "synonyms")
COUNTS = {"subset": (20_000, 2000, 2000, 2000), "whole": (100_000, 4000, 4000, 4000)}
SIZES, NUMBERS = ("large", "small"), ("one", "two", "three")
SMALL_SHARE, TINTED_SHARE = 0.16, 0.36
TOGETHER_SHARE, TWO_SHARE, THREE_SHARE = 0.12, 0.08, 0.06
"""Pictures with a second thing, and with two or three of a kind."""
SAID_SHARE = 0.3
"""Captions that say the colour a thing has by nature, of those where it has one."""

Attributes = tuple[int, ...]
_STREAMS = threading.local()


class EmojiWorlds(ImageSource):
    """Images such as "a blue fox in snow" by five artists, a function of (seed, split, index) everywhere.

    subset: `24x6` takes the first 24 things and the first 6 scenes; None takes all. With `24x6-left` things
    face as their artists drew them, most of them left, instead of either way: a generator that mirrors every
    other picture learns from those which way sooner than from both.
    Splits: `train`; `test`, the same combinations in other drawings; `held_out`, combinations of thing and
    scene or of thing and colour that never occur in training (see `is_held_out`); `synonyms`, like `test`,
    captioned with words that no training caption has. Labels are the things, of two the first.
    """

    def __init__(
        self,
        subset: str | None = None,
        *,
        resolution: int = 64,
        split: str = "train",
        mirror: bool = False,
        seed: int = 0,
    ) -> None:
        num_things, num_scenes, self.either_way = _parse_subset(subset)
        self.things = load_things()[:num_things]
        names = tuple(thing.name for thing in self.things)
        super().__init__(resolution=resolution, class_names=names, has_captions=True, mirror=mirror)
        if split not in SPLITS:
            raise ValueError(f"emoji-worlds has no split {split!r}: use {', '.join(SPLITS)}")
        self.subset, self.split, self.seed = subset, split, seed
        self.attribute_values: dict[str, tuple[str, ...]] = {
            "object": names,
            "scene": tuple(SCENES)[:num_scenes],
            "size": SIZES,
            "colour": ("own", *COLOURS),
            "count": NUMBERS,
            "second": ("none", *names),
            "design": DESIGNS,
        }
        count = COUNTS["whole" if subset is None else "subset"][SPLITS.index(split)]
        combinations = self._combinations()
        # All occur equally often; the shuffle makes any leading part a fair sample too.
        order = np.random.RandomState(seed).permutation(count) % len(combinations)
        self._planned = [combinations[i] for i in order]

    def attributes(self, index: int) -> Attributes:
        """What image `index` shows, as indices into `attribute_values`."""
        return self._plan(index % self._count())

    def attribute_tuples(self, split: str | None = None) -> list[Attributes]:
        """Every thing in every scene and colour of a split, this one by default: one, large, alone.

        The design is the first that the thing has, which plain captions do not name.
        """
        held_out = (self.split if split is None else split) == "held_out"
        return [
            (thing, scene, 0, colour, 0, 0, DESIGNS.index(next(iter(self.things[thing].designs))))
            for thing in range(len(self.things))
            for scene in range(len(self.attribute_values["scene"]))
            for colour in [0, *self._tints(thing)]
            if is_held_out(thing, scene, colour) == held_out
        ]

    def prompt(self, attributes: Attributes) -> str:
        """The plain caption of given attributes, for example "a small blue fox in snow"; no style."""
        return plain_caption(self._shown(attributes, said=False))

    def known_labels(self) -> Sequence[int | None]:
        """See `ImageSource.known_labels`."""
        return [thing for thing, _, _ in self._planned]

    def known_captions(self) -> Iterable[str]:
        """See `ImageSource.known_captions`."""
        return (self._caption(self._plan(index), self._random(index, 2)) for index in range(self._count()))

    def fingerprint(self) -> str:
        """Over the settings, the sprites and the words; see `ImageSource.fingerprint`."""
        settings = (self.subset, self.split, self.seed, self.resolution, self.mirror)
        return short_hash("emoji-worlds", VERSION, *settings, *stored_bytes())

    def _count(self) -> int:
        return len(self._planned)

    def _read(self, index: int) -> Sample:
        attributes = self._plan(index)
        thing, scene, size, colour, count, second, design = attributes
        tint, artist = ("", *COLOURS)[colour], DESIGNS[design]
        figures = [Figure(thing, artist, tint, self.either_way)] * (1 + count)
        if second:
            figures.append(Figure(second - 1, artist, either_way=self.either_way))
        pixels = draw_world(
            self.attribute_values["scene"][scene],
            SIZES[size],
            figures,
            max(DRAWN_PX, self.resolution),
            self._random(index, 1),
        )
        if self.resolution < DRAWN_PX:
            reduced = Image.fromarray(pixels.transpose(1, 2, 0)).reduce(DRAWN_PX // self.resolution)
            pixels = np.ascontiguousarray(np.asarray(reduced).transpose(2, 0, 1))
        image = torch.from_numpy(pixels)
        return Sample(image, thing, self._caption(attributes, self._random(index, 2)))

    def _caption(self, attributes: Attributes, random: np.random.RandomState) -> str:
        shown = self._shown(attributes, said=random.random_sample() < SAID_SHARE, random=random)
        return draw_caption(shown, random, unseen=self.split == "synonyms", complete=self.split != "train")

    def _shown(
        self, attributes: Attributes, *, said: bool, random: np.random.RandomState | None = None
    ) -> Shown:
        """The attributes in words.

        said: name the colour that a thing has by nature. random: chooses among unseen words for a colour.
        """
        thing, scene, size, colour, count, second, design = attributes
        unseen = random is not None and self.split == "synonyms"
        shown, artist = self.things[thing], DESIGNS[design]
        looks = shown.designs.get(artist, "")
        word = ("", *COLOURS)[colour] or (looks if said else "")
        names = shown.unseen if unseen else shown.names_in("said" if word else looks)
        if word and unseen and random is not None:
            words = word_table()["colours"].get(word, {}).get("unseen", [word])
            word = words[random.randint(len(words))]
        other = self.things[second - 1] if second else None
        others: Sequence[str] = ()
        if other is not None:
            others = other.unseen if unseen else other.names_in(other.designs.get(artist, ""))
        return Shown(
            names,
            self.attribute_values["scene"][scene],
            SIZES[size],
            word,
            NUMBERS[count],
            others,
            artist,
        )

    def _tints(self, thing: int) -> list[int]:
        """Colours that a thing is tinted in: all but those it has by nature."""
        natural = self.things[thing].colours
        return [number for number, name in enumerate(COLOURS, 1) if name not in natural]

    def _combinations(self) -> list[tuple[int, int, int]]:
        """(thing, scene, colour) of this split, -1 for a colour that is drawn for each picture."""
        pairs = [
            (thing, scene)
            for thing in range(len(self.things))
            for scene in range(len(self.attribute_values["scene"]))
        ]
        if self.split != "held_out":
            return [(*pair, -1) for pair in pairs if not is_held_out(*pair, 0)]
        new_scene = [(*pair, -1) for pair in pairs if is_held_out(*pair, 0)]
        new_colour = [
            (*pair, colour)
            for pair in pairs
            if not is_held_out(*pair, 0)
            for colour in self._tints(pair[0])
            if is_held_out(*pair, colour)
        ]
        # Both kinds make up about half of the split, whatever their numbers.
        repeats = max(1, round(len(new_colour) / len(new_scene))) if new_scene else 0
        return new_scene * repeats + new_colour

    def _random(self, index: int, purpose: int) -> np.random.RandomState:
        """Streams of a picture: its attributes (0), its drawing (1), its caption (2).

        The next call for a purpose sets the same object anew, which takes a tenth of the time of making one.
        """
        if not hasattr(_STREAMS, "by_purpose"):
            _STREAMS.by_purpose = [np.random.RandomState() for _ in range(3)]
        random: np.random.RandomState = _STREAMS.by_purpose[purpose]
        random.seed([self.seed, SPLITS.index(self.split), index, purpose])
        return random

    def _plan(self, index: int) -> Attributes:
        random = self._random(index, 0)
        thing, scene, colour = self._planned[index]
        tint, number, small = random.random_sample(3)
        if colour < 0:
            tints = [one for one in self._tints(thing) if self.split == "held_out" or not _rare(thing, one)]
            colour = tints[random.randint(len(tints))] if tint < TINTED_SHARE else 0
        designs = list(self.things[thing].designs)
        second = 0
        if number < TOGETHER_SHARE:
            free = [
                other
                for other in range(len(self.things))
                if other != thing and not is_held_out(other, scene, 0)
            ]
            if free:
                second = 1 + free[random.randint(len(free))]
                designs = [one for one in designs if one in self.things[second - 1].designs]
        counts = TOGETHER_SHARE + TWO_SHARE, TOGETHER_SHARE + TWO_SHARE + THREE_SHARE
        count = 0 if number < TOGETHER_SHARE else 1 if number < counts[0] else 2 if number < counts[1] else 0
        size = int(small < SMALL_SHARE and count == 0 and second == 0)
        design = DESIGNS.index(designs[random.randint(len(designs))])
        return thing, scene, size, colour, count, second, design


def is_held_out(thing: int, scene: int, colour: int) -> bool:
    """Whether a combination is kept out of training.

    An eighth of the pairs of thing and scene in every colour, and for each thing one colour in every scene.
    Fox in snow (0, 0) is trained on, also in blue.
    """
    return (scene + 3 * thing) % 8 == 7 or _rare(thing, colour)


def _rare(thing: int, colour: int) -> bool:
    """Whether training never shows a thing in a colour (0: its own)."""
    return colour > 0 and (colour + 5 * thing) % 8 == 3


def _parse_subset(subset: str | None) -> tuple[int, int, bool]:
    """Things, scenes, and whether things face either way."""
    total, scenes = len(load_things()), len(SCENES)
    if subset is None:
        return total, scenes, True
    match = re.fullmatch(r"(\d{1,4})x(\d{1,2})(-left)?", subset)
    counts = (int(match[1]), int(match[2])) if match else (0, 0)
    # With one scene some thing would never be trained.
    if not (1 <= counts[0] <= total and 2 <= counts[1] <= scenes):
        raise ValueError(
            f"emoji-worlds:{subset} is not a subset: write things x scenes, such as 24x6 or 24x6-left, with "
            f"1 to {total} things and 2 to {scenes} scenes"
        )
    return *counts, match is None or match[3] is None
