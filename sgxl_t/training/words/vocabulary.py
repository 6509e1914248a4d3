"""What captions are made of: things, places and the words around them, of the embedded data sets and more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from sgxl_t.datasets.embedded.scene_captions import SCENE_WORDS
from sgxl_t.datasets.embedded.sprites import COLOURS, load_sprites
from sgxl_t.datasets.embedded.worlds.things import load_things
from sgxl_t.datasets.embedded.worlds.words import word_table

Texts = tuple[str, ...]

SIZES = ("huge", "tall", "short", "giant")
COUNTS = ("four", "five", "several", "many", "some", "a group of", "a couple of", "a pair of", "a lot of")
COLOUR_WORDS = ("golden", "turquoise", "silver", "gray", "teal", "beige", "magenta", "cyan")
ADJECTIVES = ("drawn", "glossy", "clay", "painted", "minimal", "realistic", "shiny", "happy", "old", "round")
ENDINGS = ("drawing", "painting", "sticker", "emoji", "clip art", "icon", "illustration", "toy")
TIMES = ("at night", "at dusk", "at dawn", "at sunset", "by day", "in the morning", "in winter", "in summer")
PLACES = (
    *("under a starry sky", "on the moon", "on a hill", "by a river", "under the sea", "in the rain"),
    *("under a cloudy sky", "in the garden", "on a road", "in a field of flowers", "by a lake", "on ice"),
    *("in the fog", "in the sky", "at home", "in a park", "on a farm", "on an island", "in a cave"),
)
FORMS = (
    *("{thing}", "{thing} standing {place}", "{place} there is {thing}", "a photo of {thing} {place}"),
    *("{thing} sitting {place}", "I want {thing} {place}", "draw {thing} {place}", "{thing}: {noun}"),
)
"""Beside those of the data sets, what people may type all the same."""


@dataclass(frozen=True)
class Vocabulary:
    """Words and phrases, each kind once and in a fixed order.

    things: of each object its name and synonyms. unseen: of each, further names that no caption of the data
    uses. places: phrases that say where, and nouns for the same. unseen_places: such as no caption of the
    data uses. joints: two things as one phrase.
    """

    things: tuple[Texts, ...]
    unseen: tuple[Texts, ...]
    places: Texts
    nouns: Texts
    unseen_places: Texts
    colours: Texts
    unseen_colours: Texts
    sizes: Texts
    counts: Texts
    adjectives: Texts
    beginnings: Texts
    endings: Texts
    forms: Texts
    joints: Texts

    @property
    def all_names(self) -> tuple[Texts, ...]:
        """Of each object, all its names."""
        return tuple((*names, *more) for names, more in zip(self.things, self.unseen, strict=True))

    @property
    def around(self) -> Texts:
        """Everything but the names of things and of colours, the places and nouns."""
        lists = (self.sizes, self.counts, self.adjectives, self.beginnings, self.endings, TIMES)
        return tuple(chain(*lists, self.forms, self.joints))


def embedded_vocabulary() -> Vocabulary:
    """Of emoji-worlds and emoji-scenes, and of what people may type beside it.

    Read anew from the data sets' own tables, so that it follows them.
    """
    words, worlds = word_table(), load_things()
    known = {name for thing in worlds for name in (*thing.names, *thing.unseen)}
    sprites = [sprite.names for sprite in load_sprites() if not known & set(sprite.names)]
    scenes, styles = words["scenes"].values(), words["styles"].values()
    old = SCENE_WORDS.values()
    colours = words["colours"].values()
    return Vocabulary(
        things=(*(thing.names for thing in worlds), *sprites),
        unseen=(*(thing.unseen for thing in worlds), *(() for _ in sprites)),
        places=_once((place for scene in scenes for place in scene["places"]), *(one.places for one in old)),
        nouns=_once((noun for scene in scenes for noun in scene["nouns"]), *(one.nouns for one in old)),
        unseen_places=_once((place for scene in scenes for place in scene["unseen"]), PLACES),
        colours=_once((word for colour in colours for word in colour["said"]), COLOURS),
        unseen_colours=_once((word for colour in colours for word in colour["unseen"]), COLOUR_WORDS),
        sizes=_once(*words["sizes"].values(), SIZES),
        counts=_once(*words["counts"].values(), COUNTS),
        adjectives=_once((word for style in styles for word in style["adjectives"]), ADJECTIVES),
        beginnings=_once(text for style in styles for text in style["beginnings"]),
        endings=_once((text for style in styles for text in style["endings"]), ENDINGS),
        forms=_once(words["forms"], FORMS),
        joints=_once(words["joints"]),
    )


def taken_words(vocabulary: Vocabulary) -> set[str]:
    """Names of things, and every word of captions: none of these is another word for a thing."""
    kinds = (*vocabulary.things, vocabulary.places, vocabulary.nouns, vocabulary.unseen_places)
    texts = [*chain(*kinds), *vocabulary.colours, *vocabulary.unseen_colours, *vocabulary.around]
    return {*texts, *(word for text in texts for word in text.split())}


def _once(*lists: Iterable[str]) -> Texts:
    return tuple(dict.fromkeys(chain(*lists)))
