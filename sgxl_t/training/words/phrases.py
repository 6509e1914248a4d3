"""Phrases for a text tower to learn from: single words, words in captions, and captions of what is drawn."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from sgxl_t.datasets.embedded.scene_captions import with_article
from sgxl_t.networks.text.vocab import split_words
from sgxl_t.training.words.vocabulary import (
    COUNTS,
    FORMS,
    MORE_COLOURS,
    PLACES,
    SIZES,
    STYLE_FORMS,
    STYLES,
    TIMES,
    Vocabulary,
)
from sgxl_t.training.words.wordnet import Word

HELD_OUT = 50
"""Of so many words and captions, one is kept from the fit."""
FOREIGN_SHARE = 0.25
"""Share of captions in whose place for a thing a word of the word list stands."""


@dataclass(frozen=True)
class Phrases:
    """Texts to learn from, and texts that the fit does not see: with words it never saw, and new captions.

    words: texts of the word list alone; captions: sentences.
    """

    words: list[str]
    captions: list[str]
    unseen_words: list[str]
    unseen_captions: list[str]


def make_phrases(words: Sequence[Word], vocabulary: Vocabulary, captions: int, seed: int) -> Phrases:
    """Every word of the list once, and `captions` different captions, the same for the same seed.

    A word of the list is held out by its own letters, unless captions are made of it; a caption of known
    words is held out by its text.
    """
    drawn = {
        word
        for text in (*(name for names in vocabulary.things for name in names), *_plain(vocabulary))
        for word in split_words(text)
    }
    held_out = {
        word for entry in words for word in split_words(entry.text) if word not in drawn and _held_out(word)
    }
    rng = random.Random(seed)
    foreign = [entry.text for entry in words if entry.concrete]
    foreign += 3 * [entry.text for entry in words if entry.concrete and entry.common]
    made = Phrases([], [], [], [])
    for entry in words:
        unseen = any(word in held_out for word in split_words(entry.text))
        (made.unseen_words if unseen else made.words).append(entry.text)
    found: dict[str, None] = {}
    for _ in range(captions * 20):
        if len(found) == captions:
            break
        found.setdefault(_caption(vocabulary, foreign, rng))
    for text in found:
        if not any(word in held_out for word in split_words(text)):
            (made.unseen_captions if _held_out(text) else made.captions).append(text)
    return made


def plural(name: str) -> str:
    """The plural of an English noun by the usual rules."""
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name[:-1] + "ves" if name.endswith(("lf", "af")) else name + "s"


def _caption(vocabulary: Vocabulary, foreign: Sequence[str], rng: random.Random) -> str:
    places = (*vocabulary.places, *vocabulary.places, *PLACES)
    place = " ".join(part for part in (rng.choice(places), rng.choice(TIMES)) if part)
    style = rng.choice(STYLE_FORMS).format(rng.choice(STYLES))
    things = [_thing(vocabulary, foreign, rng) for _ in range(2)]
    return rng.choice(FORMS).format(thing=things[0], other=things[1], place=place, style=style)


def _thing(vocabulary: Vocabulary, foreign: Sequence[str], rng: random.Random) -> str:
    if rng.random() < FOREIGN_SHARE:
        name = rng.choice(foreign)
    else:
        name = rng.choice(rng.choice(vocabulary.things))
    before = []
    if rng.random() < 0.25:
        before.append(rng.choice(SIZES))
    if rng.random() < 0.45:
        before.append(rng.choice((*vocabulary.colours, *vocabulary.colours, *MORE_COLOURS)))
    if rng.random() < 0.08:
        before.append(rng.choice(STYLES))
    form = rng.random()
    if form < 0.15:
        return " ".join((rng.choice(COUNTS), *before, plural(name)))
    if form < 0.25:
        return " ".join((*before, plural(name)))
    phrase = " ".join((*before, name))
    if form < 0.4:
        return phrase
    return f"the {phrase}" if form < 0.5 else with_article(phrase)


def _plain(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Everything else that captions are made of."""
    lists = (SIZES, COUNTS, STYLES, STYLE_FORMS, TIMES, PLACES, MORE_COLOURS, FORMS)
    return (*vocabulary.places, *vocabulary.colours, *(text for part in lists for text in part))


def _held_out(text: str) -> bool:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") % HELD_OUT == 0
