"""The folders in which small networks are stored: bounded JSON, strict tensors, sentences for errors."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sgxl_t.files.tensors import write_tensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MAX_JSON_BYTES = 8 * 2**20
RESTORE = "restore the folder, or make a new one with `sgxl-t features train`"

T = TypeVar("T")


def write_stored(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Writes config.json and model.safetensors into a folder; the caller cares for atomicity."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, tensors)
    write_json(folder / CONFIG, config)


def write_json(path: Path, value: Any) -> None:
    """Readable JSON; ValueError for a number that is not finite."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, *, way_out: str = RESTORE) -> Any:
    """Parsed JSON of at most 8 MiB; ValueError, ending in `way_out`, when missing, larger or broken."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: {way_out}")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, more than {MAX_JSON_BYTES}: {way_out}")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is no valid JSON: {way_out}") from None


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a stored network; ValueError when it is none."""
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder: name the folder of a network made by `sgxl-t features train`"
        )
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or config.get("format") != 1 or not isinstance(config.get("kind"), str):
        raise ValueError(f"{folder / CONFIG} describes no local network of format 1: {RESTORE}")
    return config


def dataclass_from(cls: type[T], values: Any, where: Path) -> T:
    """The dataclass from its JSON form; lists become tuples. ValueError for what does not fit."""
    known = {entry.name for entry in fields(cls)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or not set(values) <= known:
        unknown = sorted(set(values) - known) if isinstance(values, dict) else [values]
        raise ValueError(f"{where} has the unknown settings {unknown}: {RESTORE}")
    try:
        return cls(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        )
    except TypeError as error:
        raise ValueError(f"{where} does not describe a network ({error}): {RESTORE}") from None


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Tensors of model.safetensors by name, on the CPU; ValueError when the file is missing or broken."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise ValueError(f"{path} is missing: {RESTORE}")
    try:
        return load_file(path)
    except (SafetensorError, OSError):
        raise ValueError(f"{path} is truncated or no safetensors file: {RESTORE}") from None


def load_strict(module: nn.Module, tensors: dict[str, Tensor], where: Path, *, assign: bool = False) -> None:
    """Loads exactly these tensors; ValueError names the first that is missing, unknown or misshapen."""
    wanted = module.state_dict()
    for name, tensor in wanted.items():
        if name not in tensors:
            raise ValueError(f"{where / WEIGHTS} lacks the tensor {name}: {RESTORE}")
        if tensors[name].shape != tensor.shape:
            raise ValueError(
                f"{where / WEIGHTS} holds {name} with shape {list(tensors[name].shape)}, "
                f"its config asks for {list(tensor.shape)}: {RESTORE}"
            )
    for name in tensors:
        if name not in wanted:
            raise ValueError(f"{where / WEIGHTS} holds the unknown tensor {name}: {RESTORE}")
    module.load_state_dict(tensors, assign=assign)
