"""Folders called train, test and the like: parts of a data set, never classes."""

from __future__ import annotations

from collections.abc import Iterable

SPLIT_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation"),
    "held_out": ("held_out",),
}
"""Names of the folders of each split, the first that is there is taken; upper case is the same."""
KNOWN = {name: split for split, names in SPLIT_NAMES.items() for name in names}


def is_split(folder: str) -> bool:
    """Whether a folder is called like a split."""
    return folder.lower() in KNOWN


def choose_split(folders: Iterable[str], split: str, where: str) -> str | None:
    """The folder of a split among folders side by side; None where these are no splits and all is `train`.

    They are splits when each is called like one, or when `train` stands beside another split; then folders
    of other names do not belong to any. split: `train`, `test`, `held_out`, or the name of a folder such as
    `val`. ValueError where it is missing.
    """
    if split not in KNOWN:
        raise ValueError(f"there is no split {split!r}: use {', '.join(SPLIT_NAMES)}")
    held = {folder.lower(): folder for folder in sorted(folders, reverse=True)}
    splits = {KNOWN[name] for name in held if name in KNOWN}
    if splits and (("train" in splits and len(splits) > 1) or all(map(is_split, held))):
        for name in (split, *SPLIT_NAMES[KNOWN[split]]):
            if name in held:
                return held[name]
        there = ", ".join(sorted(held[name] for name in held if name in KNOWN))
        raise ValueError(f"{where} has no split {split!r}: use one that it has, {there}")
    if split == "train":
        return None
    raise ValueError(
        f"{where} has no split {split!r}: make a folder {split}/ beside train/ in it, or use 'train'"
    )


def common_folder(names: Iterable[str]) -> str:
    """The deepest folder that holds all files, as a prefix that ends in `/`; empty where there is none.

    A folder called like a split ends it, so that splits stay below.
    """
    names = list(names)
    if not names:
        return ""
    low, high = min(names).split("/")[:-1], max(names).split("/")[:-1]
    common: list[str] = []
    for one, other in zip(low, high, strict=False):
        if one != other or is_split(one):
            break
        common.append(one)
    return "".join(f"{part}/" for part in common)


def of_split(names: Iterable[str], split: str, where: str) -> str:
    """The folder of the images of a split as a prefix that ends in `/`; empty where there are no splits.

    A folder around all splits does not count, as in a zip of one folder.
    """
    names = list(names)
    base = common_folder(names)
    folders = {name[len(base) :].split("/", 1)[0] for name in names if "/" in name[len(base) :]}
    chosen = choose_split(folders, split, where)
    return "" if chosen is None else f"{base}{chosen}/"
