"""English words and what they stand for, from a folder of WordNet's database files (Miller 1995)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sgxl_t.datasets.embedded.worlds.words import plural
from sgxl_t.networks.text.vocab import split_words
from sgxl_t.training.words.wordnet_files import (
    THINGS,
    NounTree,
    read_lines,
    read_tagged,
    require_files,
    words_of,
)

FILES = ("data.noun", "data.adj", "data.verb", "index.sense")
MORE_FILES = ("data.adv", "index.noun")
CONCRETE = THINGS | {28}
"""Lexicographer files of what can be drawn, and of times, which a picture may show."""
USUAL_SENSES = 2
"""A word stands for a thing where that is one of so many of its first meanings: a coach is rarely a bus."""
MOST_RELATIVES = 60
"""Other names of one thing: of a tree or a dog there are hundreds."""
WORD = re.compile(r"[a-z]+(?:[-_'][a-z]+){0,2}")


@dataclass(frozen=True)
class Word:
    """One entry, of one to three words. concrete: a noun for something with a look. common: WordNet's tagged
    texts use it."""

    text: str
    concrete: bool
    common: bool


@dataclass(frozen=True)
class Lexicon:
    """Common verbs, adjectives and adverbs of one word, and of each name what else it is called: by WordNet's
    synonyms, and by kinds of it ("vixen" for fox)."""

    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]
    adverbs: tuple[str, ...]
    relatives: Mapping[str, tuple[str, ...]]


def read_lexicon(folder: Path, names: Iterable[str], taken: Collection[str]) -> Lexicon:
    """What people may say around and in place of `names`. taken: words that mean something to captions.

    Of a name's senses that have a look the first counts, with its kinds and theirs, the MOST_RELATIVES
    commonest. Errors as `read_wordnet`.
    """
    require_files(folder, (*FILES, *MORE_FILES))
    tagged, nouns = read_tagged(folder), NounTree(folder)
    senses = nouns.senses

    def relatives(name: str) -> tuple[str, ...]:
        first = nouns.drawn(name)[:1]
        kinds = [key for above in first for key in senses[above].kinds]
        further = [key for kind in kinds for key in senses[kind].kinds]
        pairs = dict.fromkeys((text, key) for key in (*first, *kinds, *further) for text in senses[key].names)
        meant = dict.fromkeys(text for text, key in pairs if key in nouns.keys.get(text, ())[:USUAL_SENSES])
        others = [text for text in meant if text.replace("_", " ") not in taken and WORD.fullmatch(text)]
        commonest = sorted(others, key=lambda text: -tagged[text])[:MOST_RELATIVES]
        return tuple(text.replace("_", " ") for text in commonest)

    def common(file: str) -> tuple[str, ...]:
        words = {word for fields in read_lines(folder / file) for word in words_of(fields)}
        said = (word for word in words if tagged[word] and word.isalpha() and word.islower())
        return tuple(sorted(word for word in said if word not in taken))  # "green" says something

    found = {name: relatives(name) for name in dict.fromkeys(names)}
    return Lexicon(
        common("data.verb"),
        common("data.adj"),
        common("data.adv"),
        {name: texts for name, texts in found.items() if texts},
    )


def other_words(lexicon: Lexicon) -> dict[str, str]:
    """The name that each relative of a name stands for, as `in_plurals` has it."""
    return in_plurals((text, name) for name, relatives in lexicon.relatives.items() for text in relatives)


def in_plurals(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What words mean, given as word and name, in the plural as well: "poodles" for dogs. A word that stands
    for two names means the first."""
    found: dict[str, str] = {}
    for text, name in pairs:
        for one, other in ((text, name), (plural(text), plural(name))):
            found.setdefault(" ".join(split_words(one)), other)
    return found


def read_wordnet(folder: Path) -> list[Word]:
    """Lower-case entries of up to three words, sorted: nouns that are concrete, and of the rest the common.

    ValueError in one sentence where the folder lacks a file or one is not in WordNet's format.
    """
    require_files(folder, FILES)
    tagged = read_tagged(folder)
    found: dict[str, bool] = {}
    for name in FILES[:3]:
        for fields in read_lines(folder / name):
            concrete = name == "data.noun" and int(fields[1]) in CONCRETE
            for text in words_of(fields):
                if WORD.fullmatch(text):
                    found[text] = found.get(text, False) or concrete
    return [
        Word(text.replace("_", " "), concrete, tagged[text] > 0)
        for text, concrete in sorted(found.items())
        if concrete or tagged[text]
    ]
