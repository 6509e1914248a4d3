"""Classes as people write them: names with typing mistakes, synonyms, numbers and ranges."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from itertools import islice

MAX_SHOWN = 8
MAX_SUGGESTED = 3
MAX_SEARCHED = 50_000
"""Names that are searched for one that may have been meant; ImageNet with all its classes has fewer."""


class ClassNames:
    """Looks classes up by name or number.

    names: one per class; a name such as "tench, Tinca tinca" also answers to each of its comma-separated
    parts. Upper and lower case are the same.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._whole: dict[str, list[int]] = {}
        self._parts: dict[str, list[int]] = {}
        for index, name in enumerate(self.names):
            self._whole.setdefault(_key(name), []).append(index)
            for part in name.split(","):
                indices = self._parts.setdefault(_key(part), [])
                if indices[-1:] != [index]:  # the indices ascend
                    indices.append(index)

    def resolve(self, request: str | int | Sequence[str | int]) -> list[int]:
        """Labels for a name, a number, a range "0-9", a comma list of these, or a sequence of them.

        A name wins over a number, so classes that are called by numbers are found by what they are called.
        Raises ValueError for an unknown or ambiguous name (with suggestions) and for a number out of range.
        """
        if isinstance(request, bool) or request is None:
            raise ValueError(
                f"{request!r} is no class: give a name or a number from 0 to {len(self.names) - 1}"
            )
        if isinstance(request, int):
            return [self._checked(request)]
        if isinstance(request, str):
            return self._from_text(request)
        return [label for item in request for label in self.resolve(item)]

    def _from_text(self, text: str) -> list[int]:
        found = self._by_name(text)
        if found is not None:
            return [found]
        if "," in text:
            return [label for part in text.split(",") if part.strip() for label in self._from_text(part)]
        written = re.sub(r"\s", "", text)
        if re.fullmatch(r"[0-9]{1,9}", written):
            return [self._checked(int(written))]
        bounds = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", written)
        if bounds is None:
            raise ValueError(self._unknown(text))
        first, last = int(bounds[1]), int(bounds[2])
        if first > last:
            raise ValueError(f"the class range {text.strip()} runs backwards: write {last}-{first}")
        self._checked(last)
        return list(range(first, last + 1))

    def _by_name(self, text: str) -> int | None:
        for table in (self._whole, self._parts):
            labels = table.get(_key(text), [])
            if len(labels) == 1:
                return labels[0]
            if labels:
                numbers = " or ".join(map(str, labels[:MAX_SHOWN]))
                raise ValueError(
                    f"{text.strip()!r} is the name of {len(labels)} classes: give the number, {numbers}"
                )
        return None

    def _checked(self, label: int) -> int:
        if not 0 <= label < len(self.names):
            raise ValueError(
                f"class {label} does not exist: the model has {len(self.names)} classes, "
                f"0 to {len(self.names) - 1}"
            )
        return label

    def _unknown(self, text: str) -> str:
        close = self._close(_key(text))
        if close:
            hint = "did you mean " + " or ".join(self._spelled(key) for key in close) + "?"
        else:
            hint = "the classes are " + self.summary()
        return f"there is no class {text.strip()[:60]!r}: {hint}"

    def _close(self, query: str) -> list[str]:
        """Up to three keys: those with all of the query's words, then those it may be a misspelling of.

        A single word of a name counts too, so "elefant" finds the African elephant.
        """
        known = list(islice(self._parts, MAX_SEARCHED))
        containing = [key for key in known if set(query.split()) <= set(key.split())]
        written: dict[str, list[str]] = {}
        for key in known:
            for target in {key: None} | dict.fromkeys(key.split()):
                written.setdefault(target, []).append(key)
        near = difflib.get_close_matches(query, list(written), n=3, cutoff=0.6)
        found = dict.fromkeys([*containing, *(key for target in near for key in written[target])])
        return list(found)[:MAX_SUGGESTED]

    def _spelled(self, key: str) -> str:
        index = self._parts[key][0]
        return next(part.strip() for part in self.names[index].split(",") if _key(part) == key)

    def summary(self) -> str:
        """The names with their numbers, shortened."""
        shown = [
            f"{index} {name}" if name != str(index) else name
            for index, name in enumerate(self.names[:MAX_SHOWN])
        ]
        more = len(self.names) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _key(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
