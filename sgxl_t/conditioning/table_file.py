"""Class tables from files: the published one of ImageNet as it is, or any array of one row per class.

The published file (StyleGAN-XL, section 3.2) is a pickle of an embedding layer, 1000 rows of 320 numbers in
ImageNet's order of classes. It is read as data by a reader that builds tensors and runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgxl_t.files.pickles.builders import read_pickle
from sgxl_t.files.pickles.stream import BoundedReader
from sgxl_t.files.pickles.tree import Module
from sgxl_t.files.pickles.values import CutError, RefusedError
from sgxl_t.files.regular import is_regular, open_regular
from sgxl_t.files.terminal import visible
from sgxl_t.networks.weights.stored_tensors import opened

IMAGENET_CLASSES = 1000
MAX_FILE_BYTES = 512 * 2**20
MAX_WIDTH = 8192
KINDS = (".pkl", ".npy", ".safetensors")


def load_class_table(path: str | Path, names: Sequence[str]) -> Tensor:
    """float32 [len(names), dim], the rows of the classes called `names`.

    path: a .pkl as published for StyleGAN-XL, a .npy array, or a .safetensors file of one tensor. The rows of
        a table of 1000 go to classes by their ImageNet names or WordNet numbers wherever all classes have
        one, so a part of ImageNet finds its own; other tables have one row per class in the order of labels.
    Raises ValueError of one sentence for what is missing, broken, refused or has too few or too many rows.
    """
    path = Path(path)
    if not is_regular(path):
        raise ValueError(f"class table {path} is no file: name a {', '.join(KINDS)} file, or leave it out")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"class table {path} has more than {MAX_FILE_BYTES} bytes: name another file")
    readers = dict(zip(KINDS, (_from_pickle, _from_numpy, _from_safetensors), strict=True))
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"class table {path} is of an unknown kind: name a {', '.join(KINDS)} file")
    table = reader(path)
    if table.ndim != 2 or not table.is_floating_point() or not 1 <= table.shape[1] <= MAX_WIDTH:
        raise ValueError(
            f"class table {path} holds {str(table.dtype)[6:]} values of shape {list(table.shape)}: it must "
            f"be one row of 1 to {MAX_WIDTH} numbers per class"
        )
    rows = _rows_of(names, len(table))
    if rows is None:
        raise ValueError(
            f"class table {path} has {len(table)} rows and the data has {len(names)} classes: give one row "
            "per class, or call the classes by their ImageNet names or WordNet numbers"
        )
    table = table[rows].float().contiguous()
    if not bool(torch.isfinite(table).all()):
        raise ValueError(f"class table {path} holds numbers that are not finite: name another file")
    return table


def imagenet_rows(names: Sequence[str]) -> list[int] | None:
    """ImageNet's label of each class by its name or WordNet number; None unless all have exactly one."""
    from timm.data import ImageNetInfo

    table = ImageNetInfo("imagenet-1k")
    described = [" ".join(name.casefold().split()) for name in table.label_descriptions()]
    asked = [" ".join(name.casefold().split()) for name in names]
    if asked == described:  # two pairs of classes share their names, which the whole list tells apart
        return list(range(len(described)))
    places: dict[str, list[int]] = {}
    for label, (number, name) in enumerate(zip(table.label_names(), described, strict=True)):
        places.setdefault(number, []).append(label)
        places.setdefault(name, []).append(label)
    found = [places.get(name, []) for name in asked]
    return [labels[0] for labels in found] if all(len(labels) == 1 for labels in found) else None


def _rows_of(names: Sequence[str], count: int) -> list[int] | None:
    if count == IMAGENET_CLASSES:
        rows = imagenet_rows(names)
        if rows is not None:
            return rows
    return list(range(count)) if count == len(names) else None


def _from_pickle(path: Path) -> Tensor:
    try:
        with open_regular(path) as source:
            content = read_pickle(BoundedReader(source, 0, path.stat().st_size))
            if not isinstance(content, dict) or "embed" not in content:
                raise RefusedError("holds no table under the name embed")
            tensors = Module(content["embed"], "embed").own_tensors()
            if set(tensors) != {"weight"} or tensors["weight"].nbytes > MAX_FILE_BYTES:
                raise RefusedError("holds something else than an embedding under the name embed")
            return tensors["weight"].read()
    except CutError:
        raise ValueError(f"class table {path} is cut: get the file again from its publisher") from None
    except RefusedError as error:
        raise ValueError(
            f"class table {path} {visible(error)}: name the file as it was published, or leave it out"
        ) from None


def _from_numpy(path: Path) -> Tensor:
    try:
        # Mapped, the file's size is compared with the shape in its header before memory is taken.
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, OSError, EOFError, RecursionError, MemoryError, OverflowError, TypeError):
        raise ValueError(f"class table {path} is truncated or no array of numbers: write it again") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise ValueError(f"class table {path} holds no floating point numbers: write it again")
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _from_safetensors(path: Path) -> Tensor:
    with opened(path, "write the class table again") as file:
        names = list(file.keys())
        if len(names) != 1:
            raise ValueError(f"class table {path} holds {len(names)} tensors: leave one, the table")
        tensor: Tensor = file.get_tensor(names[0])
        return tensor
