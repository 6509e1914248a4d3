"""An inversion on disk: what it had reached when it was last stored, so that the same command goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sgxl_t.files.tensors import write_tensors
from sgxl_t.files.untrusted import Value, parse_json, read_json
from sgxl_t.files.whole import whole_file, write_whole
from sgxl_t.networks.weights.stored_tensors import opened

STATE, REPORT = "state.safetensors", "inversion.json"
"""What an unfinished inversion goes on from, and what was found, in the folder of its results."""
ABOUT = "inversion"
AGAIN = "remove it to begin anew"


@dataclass(frozen=True)
class Stored:
    """What a state file holds: JSON values and tensors by name."""

    about: Value
    tensors: dict[str, Tensor]


def save_state(folder: Path, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes the state, whole or not at all."""
    with whole_file(folder / STATE) as aside:
        write_tensors(aside, tensors, {ABOUT: json.dumps(about)})


def load_state(folder: Path) -> Stored | None:
    """The state in a folder; None where there is none. ValueError for a broken one."""
    path = folder / STATE
    if not path.is_file():
        return None
    with opened(path, AGAIN) as file:
        about = parse_json((file.metadata() or {}).get(ABOUT, "null"), str(path), way_out=AGAIN)
        return Stored(about, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def drop_state(folder: Path) -> None:
    """Removes the state of an inversion that has come to its end."""
    (folder / STATE).unlink(missing_ok=True)


def save_report(folder: Path, key: str, rows: list[dict[str, Any]], *, done: bool) -> None:
    """Writes what was found. key: of the request, see `Inversion.key`."""
    report = {"format": 1, "key": key, "done": done, "photos": rows}
    write_whole(folder / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def finished_rows(folder: Path, key: str, *, overwrite: bool) -> list[dict[str, Any]] | None:
    """The rows of a finished inversion that was asked for by the same key; None where there is work to do.

    ValueError where the folder holds another inversion, unless that may be overwritten.
    """
    found = [_key_in(folder / name) for name in (REPORT, STATE)]
    held = next((one for one in found if one is not None), None)
    if held is not None and held != key:
        if not overwrite:
            raise ValueError(
                f"{folder} holds another inversion (of other photographs, settings or another model): name "
                "another folder with --out, or add --overwrite"
            )
        drop_state(folder)
        return None
    if found[0] is None or overwrite:
        return None
    report = read_json(folder / REPORT, way_out=AGAIN)
    if not report["done"].boolean():
        return None
    return [dict(row.group()) for row in report["photos"].rows(100_000)]


def _key_in(path: Path) -> str | None:
    if not path.is_file():
        return None
    if path.name == REPORT:
        return read_json(path, way_out=AGAIN)["key"].text(64)
    with opened(path, AGAIN) as file:
        text = (file.metadata() or {}).get(ABOUT, "null")
    return parse_json(text, str(path), way_out=AGAIN)["key"].text(64)
