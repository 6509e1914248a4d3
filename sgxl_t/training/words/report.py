"""What a fitted tower is worth, and from which distance on a word means nothing to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sgxl_t.conditioning.caption_cache import encode_all
from sgxl_t.datasets.embedded.scene_captions import with_article
from sgxl_t.networks.text.text_encoder import TextEncoder
from sgxl_t.networks.text.vocab import split_words
from sgxl_t.networks.text.word_tower import Names, WordTower, nearest
from sgxl_t.training.words.distil import Axes, Examples, encode_many, mean_cosine
from sgxl_t.training.words.vocabulary import Vocabulary

MEASURED = 4000
"""Phrases of a kind that are measured."""
INVENTED = 300
"""Words without a meaning, for the threshold of unknown ones."""
SMALL = frozenset(
    (
        *(
            "2",
            "3",
            "a",
            "among",
            "an",
            "and",
            "as",
            "at",
            "below",
            "between",
            "by",
            "far",
            "from",
            "in",
            "inside",
        ),
        *("is", "next", "of", "on", "s", "some", "the", "there", "to", "under", "with"),
    )
)
"""Words that name nothing."""


def names_of(vocabulary: Vocabulary, tower: WordTower) -> Names:
    """The words of captions, and how far from all names a word is of no use.

    Between words that name a thing and no caption uses, and invented ones, that threshold tells best.
    """
    places = [word for text in (*vocabulary.places, *vocabulary.nouns) for word in split_words(text)]
    around = [word for text in vocabulary.around for word in split_words(text)]
    named = [name for names in vocabulary.things for name in names]
    listed = (*named, *vocabulary.colours, *(word for word in places if word not in SMALL))
    names = tuple(dict.fromkeys(name.lower() for name in listed))
    single = [name for names in vocabulary.unseen for name in names if len(split_words(name)) == 1]
    useful, useless = (nearest(tower, texts, names)[0] for texts in (single, invented_words(INVENTED)))
    candidates = torch.cat([useful, useless]).sort().values
    right = [(useful > at).float().mean() + (useless <= at).float().mean() for at in candidates]
    far = float(candidates[int(torch.stack(right).argmax())])
    return Names(names, tuple(dict.fromkeys((*around, *sorted(SMALL)))), round(far, 3))


@torch.no_grad()
def figures(
    tower: WordTower, teacher: TextEncoder, axes: Axes, examples: Mapping[str, Examples], words: Vocabulary
) -> dict[str, Any]:
    """Cosines with the teacher, which other name of a thing is nearest to its own, and unknown words.

    `synonyms`: of all things' names that no caption of the data uses, the share found by the tower, by the
    teacher, and by the teacher on the tower's axes, which is what it can reach at most.
    """
    cosine = {
        name: round(mean_cosine(tower, Examples(one.texts[:MEASURED], one.targets[:MEASURED])), 4)
        for name, one in examples.items()
        if len(one.texts)
    }
    plain = [with_article(names[0]) for names in words.things]
    other = [[with_article(name) for name in names] for names in words.unseen]
    flat = [name for names in other for name in names]
    ways: dict[str, Callable[[Sequence[str]], Tensor]] = {
        "tower": lambda texts: encode_many(tower, texts),
        "teacher": lambda texts: encode_all(teacher, texts),
        "teacher_on_axes": lambda texts: axes(encode_all(teacher, texts)),
    }
    found = {}
    for name, encode in ways.items():
        parts = encode(flat).split([len(names) for names in other])
        found[name] = round(synonyms_found(encode(plain), parts), 4)
    unseen = [name for names in words.unseen for name in names]
    return {"cosine": cosine, "synonyms": found, "called_unknown": unknown_shares(tower, unseen)}


def synonyms_found(things: Tensor, unseen: Sequence[Tensor]) -> float:
    """Share of the other names [K, dim] of each thing whose nearest of all things [N, dim] is their own."""
    right = [(names @ things.T).argmax(1) == number for number, names in enumerate(unseen) if len(names)]
    return float(torch.cat(right).float().mean())


def unknown_shares(tower: WordTower, unseen: Sequence[str]) -> dict[str, Any]:
    """How many words are told to be unknown: of those that name a thing, and of invented ones."""
    invented = invented_words(2 * INVENTED)[INVENTED:]
    single = [name for name in unseen if len(split_words(name)) == 1]
    names, at = tower.vocabulary.names, tower.vocabulary.far
    return {
        name: round(float((nearest(tower, words, names)[0] < at).float().mean()), 4) if words else 0.0
        for name, words in (("synonyms", single), ("invented", invented))
    }


def invented_words(count: int) -> list[str]:
    """Words of two or three syllables that hardly mean anything, the same ones always."""
    rng = random.Random(0)
    return [
        "".join(
            rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") + rng.choice(("", "", "k", "x", "rb", "ng"))
            for _ in range(rng.choice((2, 2, 3)))
        )
        for _ in range(count)
    ]
