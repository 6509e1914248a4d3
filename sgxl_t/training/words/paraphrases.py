"""Pairs of a free phrase and the plain caption that asks for the same picture.

What captions leave open, people say all the same: what a thing does, and how it is. Pairs are made of the
captions' words and of WordNet's common verbs, adjectives and adverbs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from sgxl_t.datasets.embedded.scene_captions import with_article
from sgxl_t.datasets.embedded.worlds.words import plural
from sgxl_t.training.words.vocabulary import Vocabulary
from sgxl_t.training.words.wordnet import Lexicon

PREPOSITIONS = (
    *("in", "on", "at", "under", "by", "among", "over", "through", "across", "along", "near", "around"),
    *("above", "past", "behind", "below", "beside", "towards", "inside", "outside", "within", "against"),
)
PARTICLES = ("", "", "", "up", "down", "about", "around", "away", "alone", "together", "by itself")
DETERMINERS = ("my", "your", "this", "that", "one", "some", "the", "her", "our")
COUNTS = ("two", "three")
COUNTED = ("{count} {things}", "exactly {count} {things}", "{things}, {count} in number")
FORMS = (
    *("{thing} {doing} {where}",) * 5,
    *("{thing} {where}",) * 2,
    *("{where} {doing} {thing}", "{where}, {thing} {doing}"),
    *("{thing} {where}, {doing}", "{thing}, {doing}, {where}", "{thing} {where}"),
)


@dataclass(frozen=True)
class Pair:
    """free: as people may type it. plain: as captions say it."""

    free: str
    plain: str


def make_pairs(vocabulary: Vocabulary, lexicon: Lexicon, count: int, seed: int) -> list[Pair]:
    """`count` pairs, the same for the same seed."""
    rng = random.Random(seed)
    return [_pair(vocabulary, lexicon, rng) for _ in range(count)]


def _pair(vocabulary: Vocabulary, lexicon: Lexicon, rng: random.Random) -> Pair:
    free, plain, many = _thing(vocabulary, lexicon, rng)
    if rng.random() < 0.15:
        joint = rng.choice(vocabulary.joints)
        other = _thing(vocabulary, lexicon, rng)
        free, plain = joint.format(one=free, other=other[0]), joint.format(one=plain, other=other[1])
        many = True
    place = rng.choice(vocabulary.places)
    where = _place(place, lexicon, rng)
    doing = _doing(lexicon, many, rng)
    text = rng.choice(FORMS).format(thing=free, doing=doing, where=where)
    if rng.random() < 0.1:
        text = f"{rng.choice(vocabulary.beginnings)} {text}"
    return Pair(" ".join(text.split()), f"{plain} {place}")


def _thing(vocabulary: Vocabulary, lexicon: Lexicon, rng: random.Random) -> tuple[str, str, bool]:
    """Free and plain words for a thing, and whether there are several."""
    name = rng.choice(rng.choice(vocabulary.things))
    said = [rng.choice(vocabulary.colours)] if rng.random() < 0.4 else []
    if rng.random() < 0.12:
        said.insert(0, "small")
    described = [*said]
    for _ in range(rng.choice((0, 0, 1, 1, 2)) if rng.random() < 0.6 else 0):
        described.insert(0, rng.choice(lexicon.adjectives))
    if rng.random() < 0.2:
        number = rng.choice(COUNTS)
        plain = " ".join((number, *said, plural(name)))
        things = " ".join((*described, plural(name)))
        return rng.choice(COUNTED).format(things=things, count=number), plain, True
    phrase = " ".join((*described, name))
    free = with_article(phrase) if rng.random() < 0.7 else f"{rng.choice(DETERMINERS)} {phrase}"
    return free, with_article(" ".join((*said, name))), False


def _place(place: str, lexicon: Lexicon, rng: random.Random) -> str:
    words = place.split()
    if rng.random() < 0.3:
        words.insert(len(words) - 1, rng.choice(lexicon.adjectives))
    if rng.random() < 0.25 and words[0] in PREPOSITIONS:
        words[0] = rng.choice(PREPOSITIONS)
    return " ".join(words)


def _doing(lexicon: Lexicon, many: bool, rng: random.Random) -> str:
    verb = rng.choice(lexicon.verbs)
    forms = (
        with_ending(verb, "ing"),
        with_ending(verb, "ing"),
        f"{'are' if many else 'is'} {with_ending(verb, 'ing')}",
        verb if many else with_ending(verb, "s"),
        with_ending(verb, "ed"),
    )
    words = [rng.choice(forms), rng.choice(PARTICLES)]
    if rng.random() < 0.15:
        words.insert(rng.randrange(2), rng.choice(lexicon.adverbs))
    return " ".join(words)


def with_ending(verb: str, ending: str) -> str:
    """A regular verb's form: "run" to running, "carry" to carries, "dance" to danced."""
    vowels = "aeiou"
    if ending == "s":
        if verb.endswith("y") and verb[-2:-1] not in vowels:
            return f"{verb[:-1]}ies"
        return verb + ("es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else "s")
    if verb.endswith("e"):
        return verb[:-1] + ending if not (ending == "ing" and verb.endswith("ee")) else verb + ending
    if ending == "ed" and verb.endswith("y") and verb[-2:-1] not in vowels:
        return f"{verb[:-1]}ied"
    one_vowel = sum(letter in vowels for letter in verb) == 1
    if one_vowel and len(verb) > 2 and verb[-2] in vowels and verb[-1] not in "wxy":
        return f"{verb}{verb[-1]}{ending}"
    return verb + ending


def texts_of(pairs: Sequence[Pair]) -> tuple[list[str], list[str]]:
    """Free phrases, and plain ones in the same order."""
    return [pair.free for pair in pairs], [pair.plain for pair in pairs]
