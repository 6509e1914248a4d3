"""Images by what annotations call them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import PurePosixPath

from sgxl_t.datasets.decode import is_image


class Lookup:
    """Finds an image by a path in a table: from the table's folder, from one above it, or by its name alone.

    Accents count the same however they are written (macOS stores them in two parts). A name without the
    ending of an image fits the one image called so with an ending; a name without a folder fits the one
    image called so anywhere below the table. Where several would fit, none does.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {_composed(name): name for name in names}

    def find(self, name: str, folder: str) -> str | None:
        """The image that a table in `folder` (a prefix ending in `/`, or empty) calls `name`, or None."""
        name = _composed(name)
        paths = [above + name for above in _upwards(folder)]
        for path in paths:
            if path in self._names:
                return self._names[path]
        plain = not is_image(name)
        if plain:
            for found in (self._by_stem.get(path, []) for path in paths):
                if len(found) == 1:
                    return found[0]
        if "/" in name:
            return None
        fitting = self._by_base.get(name, ()) if not plain else self._by_base_stem.get(name, ())
        below = [path for path in fitting if path.startswith(folder)]
        return below[0] if len(below) == 1 else None

    def beside(self, name: str) -> list[str]:
        """The images that a file with another ending lies beside: 1.txt or 1.png.txt beside 1.png."""
        stem = _composed(name).rpartition(".")[0]
        if stem in self._names:
            return [self._names[stem]]
        return self._by_stem.get(stem, [])

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped((key.rpartition(".")[0], name) for key, name in self._names.items())

    @cached_property
    def _by_base(self) -> dict[str, list[str]]:
        return _grouped((PurePosixPath(key).name, name) for key, name in self._names.items())

    @cached_property
    def _by_base_stem(self) -> dict[str, list[str]]:
        return _grouped((base.rpartition(".")[0], name) for base, ns in self._by_base.items() for name in ns)


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, name in pairs:
        groups.setdefault(key, []).append(name)
    return groups


def _upwards(folder: str) -> Iterator[str]:
    """A folder and those above it, as prefixes that end in `/`, and the root, which is empty."""
    while folder:
        yield folder
        folder = folder[: folder.rstrip("/").rfind("/") + 1]
    yield ""


def _composed(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)
