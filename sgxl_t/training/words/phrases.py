"""Phrases for a text tower to learn from: single words, words in captions, and captions of what is drawn."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from sgxl_t.datasets.embedded.scene_captions import with_article
from sgxl_t.datasets.embedded.worlds.words import plural
from sgxl_t.networks.text.vocab import split_words
from sgxl_t.training.words.vocabulary import TIMES, Vocabulary
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

    def lists(self) -> dict[str, list[str]]:
        """All four by name."""
        return {
            name: getattr(self, name) for name in ("words", "unseen_words", "captions", "unseen_captions")
        }


def make_phrases(words: Sequence[Word], vocabulary: Vocabulary, captions: int, seed: int) -> Phrases:
    """Every word of the list once, and `captions` different captions, the same for the same seed; the first
    of these are names and places alone.

    A word of the list is held out by its own letters, unless captions are made of it; a caption of known
    words is held out by its text.
    """
    drawn_of = (*chain(*vocabulary.all_names), *vocabulary.colours, *vocabulary.unseen_colours)
    drawn_of += (*vocabulary.places, *vocabulary.nouns, *vocabulary.unseen_places, *vocabulary.around)
    drawn = {word for text in drawn_of for word in split_words(text)}
    held_out = {
        word for entry in words for word in split_words(entry.text) if word not in drawn and _held_out(word)
    }
    rng = random.Random(seed)
    foreign = [entry.text for entry in words if entry.concrete and len(entry.text) > 2]
    foreign += 3 * [entry.text for entry in words if entry.concrete and entry.common and len(entry.text) > 2]
    made = Phrases([], [], [], [])
    for entry in words:
        unseen = any(word in held_out for word in split_words(entry.text))
        (made.unseen_words if unseen else made.words).append(entry.text)
    names = [name for names in vocabulary.all_names for name in names]
    own = [
        *names,
        *map(with_article, names),
        *map(plural, names),
        *vocabulary.places,
        *vocabulary.unseen_places,
    ]
    found = dict.fromkeys(own[:captions])
    for _ in range(captions * 20):
        if len(found) == captions:
            break
        found.setdefault(_caption(vocabulary, foreign, rng))
    for text in found:
        if not any(word in held_out for word in split_words(text)):
            (made.unseen_captions if _held_out(text) else made.captions).append(text)
    return made


def _caption(vocabulary: Vocabulary, foreign: Sequence[str], rng: random.Random) -> str:
    place = rng.choice(vocabulary.places if rng.random() < 0.75 else vocabulary.unseen_places)
    if rng.random() < 0.15:
        place = f"{place} {rng.choice(TIMES)}"
    thing = _thing(vocabulary, foreign, rng)
    if rng.random() < 0.2:
        thing = rng.choice(vocabulary.joints).format(one=thing, other=_thing(vocabulary, foreign, rng))
    if rng.random() < 0.1:
        thing = f"{rng.choice(vocabulary.beginnings)} {thing}"
    form = rng.choice(vocabulary.forms) if rng.random() < 0.9 else "{thing}"
    text = form.format(thing=thing, place=place, noun=rng.choice(vocabulary.nouns))
    return f"{text}, {rng.choice(vocabulary.endings)}" if rng.random() < 0.1 else text


def _thing(vocabulary: Vocabulary, foreign: Sequence[str], rng: random.Random) -> str:
    of_list = rng.random() < FOREIGN_SHARE
    name = rng.choice(foreign) if of_list else rng.choice(rng.choice(vocabulary.all_names))
    before = []
    if rng.random() < 0.25:
        before.append(rng.choice(vocabulary.sizes))
    if rng.random() < 0.1:
        before.append(rng.choice(vocabulary.adjectives))
    if rng.random() < 0.45:
        plain = rng.random() < 0.8
        before.append(rng.choice(vocabulary.colours if plain else vocabulary.unseen_colours))
    form = rng.random()
    if form < 0.15:
        return " ".join((rng.choice(vocabulary.counts), *before, plural(name)))
    if form < 0.25:
        return " ".join((*before, plural(name)))
    phrase = " ".join((*before, name))
    if form < 0.4:
        return phrase
    return f"the {phrase}" if form < 0.5 else with_article(phrase)


def _held_out(text: str) -> bool:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") % HELD_OUT == 0
