"""The folders in which small networks are stored: bounded JSON, strict tensors, sentences for errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sgxl_t.files import untrusted
from sgxl_t.files.memory import taking_memory
from sgxl_t.files.regular import NotRegularError
from sgxl_t.files.tensors import write_tensors
from sgxl_t.files.untrusted import Value
from sgxl_t.networks.weights.hub import Weights
from sgxl_t.networks.weights.stored_tensors import LARGER_MACHINE, read_fitting

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MAX_JSON_BYTES = 8 * 2**20
FORMAT = 1
RESTORE = "restore the folder, or make a new one with `sgxl-t features train`"

N = TypeVar("N", bound=nn.Module)


def write_stored(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Writes config.json and model.safetensors into a folder; the caller cares for atomicity."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, tensors)
    write_json(folder / CONFIG, config)


def write_json(path: Path, value: Any) -> None:
    """Readable JSON; ValueError for a number that is not finite."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, *, way_out: str = RESTORE, maximum: int = MAX_JSON_BYTES) -> Value:
    """The value in a JSON file; ValueError, ending in `way_out`, when missing, too large or broken."""
    try:
        return untrusted.read_json(path, maximum=maximum, way_out=way_out)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path} is missing: {way_out}") from None
    except NotRegularError as error:
        raise ValueError(f"{error}: {way_out}") from None


def read_config(folder: Path) -> Value:
    """config.json of a stored network, which holds its `kind`; ValueError when it is none."""
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder: name the folder of a network made by `sgxl-t features train`"
        )
    config = read_json(folder / CONFIG)
    if config["format"].raw != FORMAT:
        raise config.error(f"describes no local network of format {FORMAT}")
    config["kind"].text(100)
    return config


def load_fitting(
    build: Callable[[], N],
    folder: Path,
    *,
    part: str = "",
    wanted: Callable[[str], bool] | None = None,
    weights: Weights = "pretrained",
    modest: bool = False,
) -> N:
    """The network that `build` makes, with exactly the stored tensors in it; without them for no weights.

    It is first built on `meta`, which takes no memory, and compared with the header of the file, so that no
    size in a config.json takes memory which the tensors beside it do not ask for.
    modest: it is too small for that to matter (see `modest.py`).
    part: attribute of the network that is stored; the whole where none is given. wanted: which of the stored
    names count. ValueError that says what differs.
    """

    if weights == "none":
        return build()

    def stored(network: nn.Module) -> nn.Module:
        return getattr(network, part) if part else network

    with taking_memory(f"the network in {folder}", LARGER_MACHINE):
        with nullcontext() if modest else torch.device("meta"):
            network = build()
        planned = stored(network).state_dict()
        tensors = read_fitting(folder / WEIGHTS, planned, way_out=RESTORE, wanted=wanted)
        if not modest:
            network = build()
        stored(network).load_state_dict(tensors)
    return network
