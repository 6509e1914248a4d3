"""Words that mean nearly what a thing's name means: WordNet's tree of kinds says which may, a sentence
encoder which do. "Hare" is read as rabbit so, of which WordNet says only that both are leporids."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from torch import Tensor

from sgxl_t.datasets.embedded.scene_captions import with_article
from sgxl_t.training.words.wordnet import USUAL_SENSES, WORD
from sgxl_t.training.words.wordnet_files import NounTree, read_tagged, require_files

FILES = ("data.noun", "index.noun", "index.sense")
MOST_STEPS = 3
"""From a word to a thing, up and down the tree of kinds."""
STEP = 0.08
"""Of likeness that each step costs."""
ALIKE = 0.5
"""Likeness, less the steps, from which on a word is read as a thing. Of 93 names that captions have for
things beside the plain one 37 find a thing by this, 34 of them their own."""


@dataclass(frozen=True)
class Kin:
    """One meaning of a word, and a thing near it in WordNet's tree. thing: its number, thing_meaning:
    WordNet's explanation of it. steps: between the two."""

    word: str
    meaning: str
    thing: int
    thing_meaning: str
    steps: int


def read_kin(folder: Path, things: Sequence[Sequence[str]], taken: Collection[str]) -> list[Kin]:
    """All words near things, sorted by word; things by their names, taken: words that are none of these.

    A meaning counts where it is one of the noun's first USUAL_SENSES, or where WordNet's texts do not use the
    noun and the order of its meanings says nothing; a word counts where it is a noun half of the time.
    ValueError in one sentence for a folder that lacks a file, or one that is not in WordNet's format.
    """
    require_files(folder, FILES)
    nouns, tagged, as_noun = NounTree(folder), read_tagged(folder), read_tagged(folder, "1")
    below: dict[str, list[tuple[int, str, int]]] = {}
    for number, names in enumerate(things):
        first = [key for name in names for key in nouns.drawn(name)][:1]
        for key in first:
            for above, steps in nouns.ancestors(key, MOST_STEPS).items():
                below.setdefault(above, []).append((number, nouns.senses[key].meaning, steps))

    def usual(text: str) -> Iterator[str]:
        drawn = nouns.drawn(text)
        return (key for key in drawn if not as_noun[text] or key in nouns.keys[text][:USUAL_SENSES])

    found: dict[tuple[str, str, int, str], int] = {}
    for text in nouns.keys:
        word = text.replace("_", " ")
        if word in taken or not WORD.fullmatch(text) or 2 * as_noun[text] < tagged[text]:
            continue
        for key in usual(text):
            for above, up in nouns.ancestors(key, MOST_STEPS).items():
                for number, meaning, down in below.get(above, ()):
                    near = word, nouns.senses[key].meaning, number, meaning
                    found[near] = min(found.get(near, MOST_STEPS + 1), up + down)
    return [Kin(*near, steps) for near, steps in sorted(found.items()) if steps <= MOST_STEPS]


def read_as(
    kin: Sequence[Kin], things: Sequence[Sequence[str]], encode: Callable[[list[str]], Tensor]
) -> dict[str, int]:
    """The number of the thing that a word is read as, for words that are like one.

    encode: unit vectors [N, D] of texts by a sentence encoder. A word is as like a thing as it is to one of
    its names, or as WordNet's explanation of it is to names and explanation of the thing, in the mean.
    """
    texts = [(with_article(one.word), f"{one.word}: {one.meaning}") for one in kin]
    explained = [f"{things[one.thing][0]}: {one.thing_meaning}" for one in kin]
    named = [[with_article(name) for name in names] for names in things]
    every = list(dict.fromkeys([*chain(*texts), *explained, *chain(*named)]))
    numbers = {text: number for number, text in enumerate(every)}
    vectors = encode(every)

    def of(*texts: str) -> Tensor:
        return vectors[[numbers[text] for text in texts]]

    best: dict[str, tuple[float, int]] = {}
    for one, (word, meaning), explanation in zip(kin, texts, explained, strict=True):
        by_name, by_meaning = (of(word, meaning) @ of(*named[one.thing]).T).max(dim=1).values.tolist()
        told = float((of(meaning) @ of(explanation).T).squeeze())
        likeness = max(by_name, (by_meaning + told) / 2) - STEP * one.steps
        best[one.word] = max(best.get(one.word, (ALIKE, -1)), (likeness, one.thing))
    return {word: thing for word, (_, thing) in best.items() if thing >= 0}
