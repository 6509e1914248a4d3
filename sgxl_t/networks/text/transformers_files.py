"""The files of a tower of the transformers library, looked through before the library reads them.

The library builds what a config.json describes, whatever memory that takes, fills up layers that the weights
lack, and may fetch kernels and code that a description names. So descriptions are bounded here, and compared
with the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgxl_t.files.regular import is_regular
from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import MAX_BYTES, Value
from sgxl_t.networks.weights.stored import CONFIG, read_json
from sgxl_t.networks.weights.stored_tensors import opened

FILES = "config.json, model.safetensors and tokenizer.json"
RESTORE = f"restore its {FILES}"
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
MAX_NUMBER = 1 << 24
MAX_LAYERS = 256
MAX_PARTS = 1000
LAYERS = ("num_layers", "num_decoder_layers", "num_hidden_layers")
FOREIGN = ("auto_map", "quantization_config")
"""Settings that name code beside the weights, or a library that turns them into others."""
ATTENTION = ("eager", "sdpa")
"""Ways of attention that torch brings; any other name may be that of a repository with kernels."""


def checked_folder(reference: str, name: str) -> Path | None:
    """The folder of that name, with all files there, regular and bounded; None for an id of the hub."""
    folder = Path(name)
    if not folder.is_dir():
        if re.fullmatch(r"[\w-][\w.-]{0,95}(/[\w.-]{1,96})?", name):
            return None
        raise ValueError(f"{reference}: there is no folder {name}: place one there with {FILES}")
    lacking = []
    if not (folder / CONFIG).exists():
        lacking.append(CONFIG)
    if not any(folder.glob("*.safetensors")):
        lacking.append(WEIGHTS)
    if not any((folder / file).exists() for file in ("tokenizer.json", "spiece.model")):
        lacking.append("tokenizer.json")
    if lacking:
        raise ValueError(f"{reference} lacks {', '.join(lacking)}: place {FILES} of one network in {folder}")
    check_files(folder, RESTORE)
    return folder


def check_files(folder: Path, way_out: str) -> None:
    """ValueError where a library would open something else than a file there, or read JSON without bounds."""
    for path in sorted(folder.iterdir()):
        if not path.is_dir() and not is_regular(path):
            raise ValueError(f"{path} is no file: {way_out}")
        if path.suffix == ".json":
            read_json(path, way_out=way_out, maximum=MAX_BYTES)
        if path.suffix == ".safetensors":
            with opened(path, way_out):
                pass


def check_settings(settings: Value) -> None:
    """ValueError for a config.json that names code, kernels or a quantisation, or sizes beyond all bounds."""
    for value in _groups(settings):
        for key, raw in value.group().items():
            if key in FOREIGN and raw:
                raise value.error(f'has "{key}", which is not followed: only plain weights are read, no code')
            if key.endswith("attn_implementation") and raw is not None and raw not in ATTENTION:
                raise value[key].error(f"is not one of {', '.join(ATTENTION)}")
            if key in LAYERS and raw is not None:
                value[key].integer(0, MAX_LAYERS)
            if isinstance(raw, int | float) and not isinstance(raw, bool):
                value[key].number(-MAX_NUMBER, MAX_NUMBER)


def weight_files(name: str, cached: Any, common: dict[str, Any]) -> list[Path]:
    """The safetensors files of a tower, in a folder or in the hub's cache.

    cached: transformers' look-up of one file, None where there is none. common: its settings.
    """
    whole = cached(name, WEIGHTS, **common)
    if whole is not None:
        return [Path(whole)]
    index = cached(name, INDEX, **common)
    if index is None:
        raise FileNotFoundError(f"{name} has no {WEIGHTS}")
    table = read_json(Path(index), way_out=RESTORE, maximum=MAX_BYTES)["weight_map"]
    names = sorted({table[key].text(200) for key in table.keys()})  # noqa: SIM118
    if len(names) > MAX_PARTS or not all(re.fullmatch(r"[\w.-]+\.safetensors", part) for part in names):
        raise table.error("names files that are no parts of the weights")
    parts = [cached(name, part, **common) for part in names]
    if None in parts:
        raise FileNotFoundError(f"{name} lacks {visible(names[parts.index(None)])}")
    return [Path(part) for part in parts]


def _groups(value: Value) -> Iterator[Value]:
    """A group of settings and all groups inside it; lists are looked through as well."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one.raw, dict):
            yield one
            waiting += [one[key] for key, raw in one.raw.items() if isinstance(raw, dict | list)]
        elif isinstance(one.raw, list):
            waiting += [inner for inner in one.rows() if isinstance(inner.raw, dict | list)]
