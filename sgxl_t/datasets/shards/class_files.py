"""Names of classes beside shards: our classes.json, lists of names, and what other tools write."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sgxl_t.datasets.images.annotations import MAX_CLASSES
from sgxl_t.datasets.images.splits import is_split
from sgxl_t.datasets.tables.columns import LABEL_COLUMNS
from sgxl_t.files.regular import is_regular, read_regular
from sgxl_t.files.untrusted import UntrustedValueError, Value, read_json

CLASS_FILE = "classes.json"
"""{"class_names": [...]}, as `sgxl-t prepare` writes it; names alone, or with numbers, are read too."""
NAME_LISTS = ("classnames.txt", "class_names.txt", "classes.txt")
"""One name a line, in the order of the classes, as clip_benchmark has it."""
FEATURE_FILES = ("dataset_info.json", "dataset_infos.json")
"""What the datasets library says of a set, names of classes included."""
MAX_FILE_BYTES = 2**24
WAY_OUT = (
    f'put {CLASS_FILE} ({{"class_names": ["cat", ...]}}) or {NAME_LISTS[0]} (one name a line) beside the '
    "shards, or beside a .txt list that names them"
)


def folders_to_search(reference: str, folders: Iterable[Path]) -> list[Path]:
    """Where class files may lie: beside a list of shards or in the folder that was named; else beside the
    shards, or above a folder called like a split, such as train/."""
    named = Path(reference)
    top = named.parent if named.suffix.lower() == ".txt" else named
    candidates = [top] if top.is_dir() and "://" not in reference else []
    for folder in folders:
        candidates += [folder, *([folder.parent] if is_split(folder.name) else [])]
    return list(dict.fromkeys(candidates))


def find_class_names(candidates: list[Path]) -> tuple[tuple[str, ...], Path] | None:
    """The names of the classes in their order, and the file that has them; None where there is none.

    The first place wins when it is the only one with names. ValueError for files that are none, and for two
    folders of shards that name their classes differently.
    """
    found = [read for folder in candidates if (read := _in_folder(folder))]
    if not found:
        return None
    for names, path in found[1:]:
        if names != found[0][0]:
            raise ValueError(
                f"{found[0][1]} and {path} name other classes, or in another order: make the labels of the "
                "shards the same, or leave one of them out"
            )
    return found[0]


def _in_folder(folder: Path) -> tuple[tuple[str, ...], Path] | None:
    for name in (CLASS_FILE, *NAME_LISTS, *FEATURE_FILES):
        path = folder / name
        if is_regular(path) and (names := _read(path)):
            return names, path
    return None


def _read(path: Path) -> tuple[str, ...]:
    if path.name in NAME_LISTS:
        return _lines(path)
    table = read_json(path, maximum=MAX_FILE_BYTES)
    if path.name in FEATURE_FILES:
        return _of_features(table)
    try:
        return _names(table.get("class_names") or table if isinstance(table.raw, dict) else table)
    except UntrustedValueError as error:
        raise ValueError(f'{path} is not a class file: expected {{"class_names": ["cat", ...]}}') from error


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = read_regular(path, MAX_FILE_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a list of class names: it is not UTF-8 text") from error
    names = tuple(line.strip() for line in lines)
    while names and not names[-1]:
        names = names[:-1]
    if len(names) > MAX_CLASSES:
        raise ValueError(f"{path} names {len(names)} classes, and at most {MAX_CLASSES} are read")
    return names


def _names(table: Value) -> tuple[str, ...]:
    """A list of names; or {"cat": 0, ...}; or {"0": "cat", ...}."""
    if isinstance(table.raw, list):
        return tuple(
            str(row.raw) if isinstance(row.raw, int) else row.text() for row in table.rows(MAX_CLASSES)
        )
    keys = table.keys()
    if len(keys) > MAX_CLASSES:
        raise table.error(f"has {len(keys)} keys, and at most {MAX_CLASSES} are read")
    if all(key.isdecimal() for key in keys):
        by_number = {int(key[:9]): table[key].text() for key in keys}
    else:
        by_number = {table[key].integer(0, MAX_CLASSES): key for key in keys}
    if sorted(by_number) != list(range(len(keys))):
        raise table.error("does not number its names from 0 on without gaps")
    return tuple(by_number[number] for number in range(len(keys)))


def _of_features(table: Value) -> tuple[str, ...]:
    """Names of the first feature called like a label; () where no feature has names."""
    groups = [table.raw, *(table.raw.values() if isinstance(table.raw, dict) else ())]
    for group in groups:
        features = group.get("features") if isinstance(group, dict) else None
        for column in ("cls", *LABEL_COLUMNS):
            feature = features.get(column) if isinstance(features, dict) else None
            names = feature.get("names") if isinstance(feature, dict) else None
            if isinstance(names, list):
                return _names(Value(names, table.where, f"{column}.names"))
    return ()
