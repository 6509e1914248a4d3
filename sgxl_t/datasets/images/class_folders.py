"""Classes by folder: which folders are classes, and why others are not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from sgxl_t.datasets.images.splits import is_split

STRAY_SHARE = 0.1
"""Share of images that may lie beside the class folders; they are rejected. One may in any set."""


@dataclass
class ClassFolders:
    """labels: class by image, empty without classes. strays: images in no class folder.

    folders: the class folders, or those that a rule left out. refusal: that rule and the way out; None where
    there are classes, or no folders at all.
    """

    labels: dict[str, str] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    refusal: str | None = None


def class_folders(names: Iterable[str], base: str = "") -> ClassFolders:
    """Classes of images by the folders they lie in; `base` is a folder around all of them, ending in `/`.

    Folders side by side are classes when there are two or more, nearly all images lie in one, and they are
    called neither by five digits nor like splits. A single folder around all of them does not count, however
    deep; below a class folder, all images are of that class.
    """
    names = list(names)
    total, strays = len(names), list[str]()
    while True:
        here = [name for name in names if "/" not in name[len(base) :]]
        inside = {name: name[len(base) :].split("/", 1)[0] for name in names if "/" in name[len(base) :]}
        folders = sorted(set(inside.values()))
        few = len(strays) + len(here) <= max(1, STRAY_SHARE * total)
        if len(folders) != 1 or not few:
            break
        strays += here
        names, base = list(inside), f"{base}{folders[0]}/"
    strays += here
    if not folders:
        return ClassFolders(refusal=_one_folder(base) if base else None)
    paths = [f"{base}{folder}" for folder in folders]
    refusal = _refusal(folders, strays, total)
    if refusal is not None:
        return ClassFolders(folders=[] if _are_chunks(folders) else paths, refusal=refusal)
    return ClassFolders(inside, sorted(strays), paths)


def _one_folder(base: str) -> str:
    return (
        f"all pictures lie in the one folder {base[:-1]}, and one class is not enough: put a folder for each "
        "further class beside it, or train with --cond none"
    )


def _refusal(folders: list[str], strays: list[str], total: int) -> str | None:
    """Why folders are no classes, and the way out."""
    named = ", ".join(folders[:3]) + (", ..." if len(folders) > 3 else "")
    if len(strays) > max(1, STRAY_SHARE * total):
        return (
            f"{len(strays)} of {total} pictures lie beside the folders {named} (first {strays[0]}), more "
            "than a tenth, so that these do not count as classes: sort them into class folders too"
        )
    if all(re.fullmatch(r"\d{5}", folder) for folder in folders):
        return (
            f"folders named by five digits ({named}) only divide files, as in StyleGAN's archives, and do "
            f"not count as classes: rename them, such as {folders[0]} to c{folders[0]}, or add dataset.json"
        )
    splits = [folder for folder in folders if is_split(folder)]
    if splits:
        return (
            f"the folder {splits[0]} is called like a split and stands beside {len(folders) - len(splits)} "
            f"others ({named}), so that these do not count as classes: rename it, or add dataset.json"
        )
    return None


def _are_chunks(folders: list[str]) -> bool:
    """Whether folders are numbered from 00000 on, as archives divide their files; no labels are lost then."""
    return folders == [f"{number:05d}" for number in range(len(folders))]
