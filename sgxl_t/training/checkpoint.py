"""Everything to continue a run exactly: tensors in safetensors, the rest in JSON, a manifest over all files.

A checkpoint is written aside, flushed to disk and renamed, so a folder named `kimg_*` is always whole
unless the disk damaged it later; the manifest finds that out on loading.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = 1
NO_MODELS: Mapping[str, Path] = MappingProxyType({})


def flatten_optimizer(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """Moments and step counts by `<parameter name>.<moment>`; rates come from the configuration."""
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
    """Inverse of `flatten_optimizer`. partly: moments of parameters that are not there, or of another shape,
    are left out; otherwise they are a ValueError."""
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    positions = {name: index for index, name in enumerate(_parameter_names(optimizer, network))}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, moment = key.rpartition(".")
        if name in positions and (moment == "step" or value.shape == shapes[name]):
            state.setdefault(positions[name], {})[moment] = value
        elif not partly:
            raise ValueError(f"moments of {name} belong to no parameter that is trained")
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

    parts: file stem to tensors by name. models: model folders to copy, by the name of the copy. Returns the
    folder.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"kimg_{kimg:011.3f}"
    aside = root / f".writing-{folder.name}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        for stem, tensors in parts.items():
            save_file(
                {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()},
                aside / f"{stem}.safetensors",
            )
        (aside / "state.json").write_text(json.dumps({"format": FORMAT, **state}, indent=1))
        for name, model in models.items():
            shutil.copytree(model, aside / name)
        written = sorted(path for path in aside.rglob("*") if path.is_file())
        files = {path.relative_to(aside).as_posix(): _fingerprint(path) for path in written}
        (aside / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": files}, indent=1))
        for path in aside.rglob("*"):
            _sync(path)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(aside, folder)
        _sync(root)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for old in _folders(root)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def load_newest(root: Path) -> tuple[Path, dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """The newest whole checkpoint as (folder, parts, state), or None when there is none.

    A damaged one is named in the log and the one before is used. Raises ValueError when checkpoints exist
    but none is whole, since starting over would lose them without a word.
    """
    damaged: list[str] = []
    for folder in reversed(_folders(root)):
        problem = _problem(folder)
        if problem is None:
            parts = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
            return folder, parts, json.loads((folder / "state.json").read_text())
        log.warning("checkpoint %s is damaged (%s), trying the one before", folder.name, problem)
        damaged.append(f"{folder.name}: {problem}")
    if damaged:
        raise ValueError(
            f"no checkpoint in {root} is whole ({'; '.join(damaged)}): "
            "restore one, or remove the folder to start over"
        )
    return None


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
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            return f"format {manifest['format']} instead of {FORMAT}"
        for name, expected in manifest["files"].items():
            inside = not Path(name).is_absolute() and ".." not in Path(name).parts
            if not inside or not (folder / name).is_file():
                return f"{name} is missing"
            if _fingerprint(folder / name) != expected:
                return f"{name} does not match its manifest"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        return f"{type(error).__name__} in {MANIFEST}"
    return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
