"""Tensors in safetensors files that may come from anywhere: sizes are compared before memory is taken."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sgxl_t.files.memory import taking_memory
from sgxl_t.files.regular import NotRegularError, open_regular
from sgxl_t.files.terminal import visible

MAX_HEADER = 16 * 2**20
"""Longest table of tensors that is read, in bytes; one of 10,000 tensors takes about 1 MiB."""
FLOATS = {"F64", "F32", "F16", "BF16"}
SPARE = 1 << 20
"""Numbers that a network may have beside those of its file: what libraries add, and small ones all in all."""
LARGER_MACHINE = "use a machine with more memory, or another network"


@contextmanager
def opened(path: Path, way_out: str) -> Iterator[Any]:
    """An open safetensors file; nothing but its table of names and shapes has been read.

    The library refuses tables that do not fit the file: tensors that overlap or leave holes, shapes that
    are larger than their bytes. ValueError, ending in `way_out`, also for whatever is read inside.
    """
    try:
        _check_header(path)
        with taking_memory(str(path), LARGER_MACHINE), safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: {way_out}") from None
    except NotRegularError as error:
        raise ValueError(f"{error}: {way_out}") from None
    except (SafetensorError, OSError, OverflowError):
        raise ValueError(f"{path} is truncated or no safetensors file: {way_out}") from None


def stored_shapes(path: Path, way_out: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors by name, from the file's header; ValueError as `opened`."""
    with opened(path, way_out) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def read_fitting(
    path: Path, expected: Mapping[str, Tensor], *, way_out: str, wanted: Callable[[str], bool] | None = None
) -> dict[str, Tensor]:
    """Every expected tensor by name, finite and in its expected type, on the CPU.

    expected: names, shapes and types, normally of a network on `meta`, so that nothing was allocated for it.
    wanted: which of the stored names count; all where none is given. ValueError that says what differs.
    """
    with opened(path, way_out) as file:
        names = {name for name in file.keys() if wanted is None or wanted(name)}  # noqa: SIM118
        missing, unexpected = sorted(set(expected) - names), sorted(names - set(expected))
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names & set(expected)}
        differing = [
            f"{name} {shape} instead of {tuple(expected[name].shape)}"
            for name, shape in sorted(shapes.items())
            if shape != tuple(expected[name].shape)
        ]
        problems = [("missing", missing), ("unexpected", unexpected), ("differently shaped", differing)]
        found = "; ".join(f"{word}: {_listed(items)}" for word, items in problems if items)
        if found:
            raise ValueError(f"{path} does not fit the config.json beside it ({found}): {way_out}")
        return {name: _checked(file, name, expected[name], path, way_out) for name in sorted(names)}


def check_room(numbers: int, paths: Sequence[Path], about: str, way_out: str) -> None:
    """ValueError unless the files hold about as many numbers as the network that `about` describes.

    For networks of libraries, which rename tensors while they read them: a description with more layers than
    the files have would else be filled up with fresh ones, whatever memory they take.
    """
    stored = sum(math.prod(shape) for path in paths for shape in stored_shapes(path, way_out).values())
    if numbers > 1.25 * stored + SPARE:
        raise ValueError(
            f"{about} describes a network of {numbers:,} numbers, and {paths[0]} holds {stored:,}: {way_out}"
        )


def _check_header(path: Path) -> None:
    """ValueError where the table is longer than any that belongs to a network."""
    with open_regular(path) as file:
        start = file.read(8)
    if len(start) < 8 or struct.unpack("<Q", start)[0] > MAX_HEADER:
        raise SafetensorError("the table of tensors is cut or endless")


def _checked(file: Any, name: str, expected: Tensor, path: Path, way_out: str) -> Tensor:
    kind, shown = file.get_slice(name).get_dtype(), visible(name)[:160]
    if expected.is_floating_point() != (kind in FLOATS):
        raise ValueError(f"{path} holds {shown} as {kind} where {expected.dtype} belongs: {way_out}")
    tensor = file.get_tensor(name)
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{path} holds numbers that are not finite in {shown}: {way_out}")
    return tensor.to(expected.dtype)


def _listed(items: list[str], limit: int = 4) -> str:
    more = len(items) - limit
    return ", ".join(visible(item)[:160] for item in items[:limit]) + (
        f" and {more} more" if more > 0 else ""
    )
