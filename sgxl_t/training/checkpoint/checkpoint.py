"""Everything to continue a run exactly: tensors in safetensors, the rest in JSON, a manifest over all files.

A checkpoint is written aside, flushed to disk and renamed, so a folder named `kimg_*` is always whole
unless the disk damaged it later, or its removal was cut short; the manifest finds that out on loading.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sgxl_t.files.regular import is_regular
from sgxl_t.files.tensors import write_tensors
from sgxl_t.files.untrusted import kind_of, read_json
from sgxl_t.files.whole import whole_folder
from sgxl_t.training.checkpoint.disk import as_write_error

log = logging.getLogger(__name__)

MANIFEST, STATE, TENSORS = "manifest.json", "state.json", ".safetensors"
FORMAT = 1
NO_MODELS: Mapping[str, Path] = MappingProxyType({})


def flatten_optimizer(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """Optimizer state by `<parameter name>.<entry>`: step counts scalar, the rest in the parameter's shape.

    Learning rates are not part of it; they come from the configuration.
    """
    names = _parameter_names(optimizer, network)
    state = optimizer.state_dict()["state"]
    return {
        f"{names[index]}.{moment}": torch.as_tensor(value)
        for index, entry in state.items()
        for moment, value in entry.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    partly: bool = False,
) -> None:
    """Inverse of `flatten_optimizer`. partly: entries of parameters that are not there, or of another shape,
    are left out; otherwise they are a ValueError."""
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    positions = {name: index for index, name in enumerate(_parameter_names(optimizer, network))}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, moment = key.rpartition(".")
        if name in positions and (moment == "step" or value.shape == shapes[name]):
            state.setdefault(positions[name], {})[moment] = value
        elif not partly:
            raise ValueError(f"optimizer state of {name} belongs to no parameter that is trained")
    whole = {index: entry for index, entry in state.items() if set(entry) != {"step"}}
    optimizer.load_state_dict({"state": whole, "param_groups": optimizer.state_dict()["param_groups"]})


def _parameter_names(optimizer: torch.optim.Optimizer, network: nn.Module) -> list[str]:
    """Names in the network of the optimiser's parameters, in the optimiser's order."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def save_checkpoint(
    root: Path,
    kimg: float,
    parts: dict[str, dict[str, Tensor]],
    state: dict[str, Any],
    *,
    models: Mapping[str, Path] = NO_MODELS,
    keep: int,
) -> Path:
    """Writes `root/kimg_*` from groups of tensors and a JSON state, then removes all but the newest `keep`.

    parts: file stem to tensors of any shape by name. models: model folders to copy, by the name of the copy.
    Returns the folder. Checkpoints of more images are removed too: the run went on from before them because
    they are damaged.
    Raises WriteError, with nothing left of the new one and all of the old ones, where the disk is full, or
    where the folder that root is in has gone.
    """
    folder = root / f"kimg_{kimg:011.3f}"
    try:
        root.mkdir(exist_ok=True)
        with whole_folder(folder, mark=None, parents=False) as aside:
            _write(aside, parts, state, models)
    except (OSError, SafetensorError) as error:
        raise as_write_error(error, _bytes(parts, models)) from error
    remove_old(root, folder, keep)
    return folder


def remove_old(root: Path, newest: Path, keep: int) -> None:
    """Removes all checkpoints but `newest` and those before it, `keep` in all."""
    older = [path for path in _folders(root) if path.name <= newest.name]
    for path in _folders(root):
        if path not in older[-keep:]:
            shutil.rmtree(path, ignore_errors=True)


def _write(
    aside: Path, parts: dict[str, dict[str, Tensor]], state: dict[str, Any], models: Mapping[str, Path]
) -> None:
    """All files of a checkpoint."""
    for stem, tensors in parts.items():
        write_tensors(aside / f"{stem}{TENSORS}", tensors)
    (aside / STATE).write_text(json.dumps({"format": FORMAT, **state}, indent=1))
    for name, model in models.items():
        shutil.copytree(model, aside / name)
    written = sorted(path for path in aside.rglob("*") if path.is_file())
    files = {path.relative_to(aside).as_posix(): _fingerprint(path) for path in written}
    (aside / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": files}, indent=1))


def _bytes(parts: dict[str, dict[str, Tensor]], models: Mapping[str, Path]) -> int:
    """About how much a checkpoint takes on the disk."""
    tensors = [t.numel() * t.element_size() for group in parts.values() for t in group.values()]
    files = [path.stat().st_size for model in models.values() for path in model.rglob("*") if path.is_file()]
    return sum(tensors) + sum(files)


def load_newest(root: Path) -> tuple[Path, dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """The newest whole checkpoint as (folder, parts, state), or None; see `find_newest`.

    parts: file stem to tensors by name, in their stored shapes on the CPU.
    """
    folder = find_newest(root)
    if folder is None:
        return None
    listed = [folder / name for name in read_json(folder / MANIFEST)["files"].group()]
    tensors = sorted(path for path in listed if path.suffix == TENSORS and path.parent == folder)
    parts = {path.stem: load_file(path) for path in tensors}
    return folder, parts, read_json(folder / STATE, nan="number").group()


def find_newest(root: Path) -> Path | None:
    """Folder of the newest whole checkpoint, or None when there is none.

    A damaged one is named in the log and the one before is used. Raises ValueError when checkpoints exist
    but none is whole, since starting over would lose them without a word.
    """
    damaged: list[str] = []
    for folder in reversed(_folders(root)):
        problem = _problem(folder)
        if problem is None:
            return folder
        log.warning("checkpoint %s is damaged (%s), trying the one before", folder.name, problem)
        damaged.append(f"{folder.name}: {problem}")
    if damaged:
        raise ValueError(
            f"no checkpoint in {root} is whole ({'; '.join(damaged)}): "
            "restore one, or remove the folder to start over"
        )
    return None


def manifest_hash(folder: Path) -> str:
    """Of a whole checkpoint; equal where all its files are."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def newest_whole(root: Path) -> Path | None:
    """The checkpoint folder that `load_newest` would read, or None."""
    return next((folder for folder in reversed(_folders(root)) if _problem(folder) is None), None)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("kimg_*") if path.is_dir()) if root.exists() else []


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _problem(folder: Path) -> str | None:
    """What is wrong with a checkpoint in a few words, or None."""
    try:
        manifest = read_json(folder / MANIFEST)
        if manifest["format"].raw != FORMAT:
            return f"format {kind_of(manifest['format'].raw)} instead of {FORMAT}"
        files = manifest["files"].group()
        if STATE not in files:
            return f"{MANIFEST} does not list {STATE}"
        for name, expected in files.items():
            inside = not Path(name).is_absolute() and ".." not in Path(name).parts
            if not inside or not is_regular(folder / name):
                return f"{name} is missing"
            if _fingerprint(folder / name) != expected:
                return f"{name} does not match its manifest"
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is garbled"
    return None
