"""What `--start` names: a run, or a model by its folder, name or Hub id; read from headers and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sgxl_t.conditioning.class_table import rows_by_name
from sgxl_t.datasets.base import ImageSource
from sgxl_t.files.config_json import config_to_dict
from sgxl_t.model_io.model_folder import CONFIG, TEXT_ENCODER, WEIGHTS, ModelInfo, read_info, weight_shapes
from sgxl_t.model_io.named_model import hub_folder, packaged_model
from sgxl_t.model_io.run_model import run_model
from sgxl_t.networks.backbones.references import local_references
from sgxl_t.networks.frozen import load_text_encoder
from sgxl_t.training.checkpoint.checkpoint import STATE, newest_whole
from sgxl_t.training.config.settings import NetworkSettings

Shapes = dict[str, tuple[int, ...]]
TABLE = "mapping.embed.weight"
"""The generator's class table."""
NAMES = "a run folder, such as runs/text, a model folder, such as runs/text/best, demo_text or a Hub id"


@dataclass(frozen=True)
class Origin:
    """What a run begins from.

    start: as the user gave it. folder: of the run, or of the model. weights: file of the generator's tensors,
    with their shapes. model: what a model folder says of itself; None for a run. generator: its settings,
    nested as in a configuration; empty where a checkpoint does not say. cond, data: None where it does not
    say. class_names: empty where they are not known, or there are none. note: why it is not what the user
    named, for the log.
    """

    start: str
    folder: Path
    weights: Path
    shapes: Shapes
    model: ModelInfo | None
    generator: Mapping[str, Any]
    cond: str | None
    data: str | None
    class_names: tuple[str, ...]
    note: str = ""

    @property
    def text_encoder(self) -> Path | None:
        """Folder of the text encoder that a model reads captions with."""
        folder = self.folder / TEXT_ENCODER
        return folder if self.model is not None and self.cond == "text" and folder.is_dir() else None

    @property
    def names_as_classes(self) -> bool:
        """Whether names of classes can be read as the captions of a text model are."""
        return self.text_encoder is not None and self.generator.get("family") == "stylegan_t"

    def class_table(self) -> Tensor | None:
        """Rows of the generator's class table [classes, D]; None without one."""
        if TABLE not in self.shapes:
            return None
        with safe_open(self.weights, framework="pt") as stored:
            table: Tensor = stored.get_tensor(TABLE).float()
        return table


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model as `save_model` writes it."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run with checkpoints."""
    return any((folder / "checkpoints").glob("kimg_*"))


def find_origin(start: str, cond: str | None = None) -> Origin:
    """Looks at what `--start` names; ValueError of one sentence where a run cannot begin there.

    cond: of the new run. A run gives its newest checkpoint, or its model where it has none or another
    condition: heads and optimiser states of another condition are of no use.
    """
    folder = _folder(start)
    if is_model(folder) and not is_run(folder):
        return _of_model(start, folder)
    checkpoint = newest_whole(folder / "checkpoints")
    why = "has no whole checkpoint"
    if checkpoint is not None:
        found = _of_run(start, folder, checkpoint)
        if found.cond is None or cond in (None, found.cond):
            return found
        why = f"is a run of cond={found.cond}"
    elif (folder / "chain.json").is_file():
        why = "is a run of stages"
    model = None if _is_checkpoint(folder) else run_model(folder)
    if model is None:
        raise ValueError(f"start={start} {why if checkpoint else _what_it_is(folder)}")
    return replace(_of_model(start, model), note=f"start={start} {why}: its model {model} is taken")


def _folder(start: str) -> Path:
    """The folder that `start` stands for."""
    path = Path(start)
    if path.is_file():
        made = f", which `sgxl-t import {start} DEST` makes of it" if path.suffix == ".pkl" else ""
        raise ValueError(f"start={start} is a file: name a run folder or a model folder{made}")
    if path.exists():
        return path
    if (packaged := packaged_model(start)) is not None:
        return packaged
    if path.is_absolute() or len(path.parts) != 2 or path.parent.is_dir():  # no id, or a name beside folders
        raise ValueError(f"start={start} is not there: name {NAMES}")
    return hub_folder(start)


def _is_checkpoint(folder: Path) -> bool:
    """Whether a folder is one checkpoint of a run, which may hold a model of its own."""
    return folder.name.startswith("kimg_") and folder.parent.name == "checkpoints"


def _what_it_is(folder: Path) -> str:
    """Why a folder is no start, and what to name instead."""
    if (folder / "chain.json").is_file():
        return "is a run of stages and none of them has a model yet: wait for its first snapshot"
    if _is_checkpoint(folder):
        return f"is one checkpoint of a run: name the run, {folder.parents[1]}, whose newest one is taken"
    return f"holds neither checkpoints nor a model: name {NAMES}"


def _of_model(start: str, folder: Path) -> Origin:
    info = read_info(folder)
    generator, cond = config_to_dict(info.generator), info.condition.cond
    shapes = weight_shapes(folder)
    data = info.provenance.get("data")
    return Origin(start, folder, folder / WEIGHTS, shapes, info, generator, cond, data, info.class_names)


def _of_run(start: str, folder: Path, checkpoint: Path) -> Origin:
    weights = checkpoint / "network_g.safetensors"
    shapes = stored_generator(checkpoint)
    if shapes is None:
        raise ValueError(f"start={folder}: {checkpoint} holds no generator: restore it")
    settings = json.loads((checkpoint / STATE).read_text()).get("config", {})
    generator, cond = settings.get("generator", {}), settings.get("cond")
    data = settings.get("data", {}).get("source")
    return Origin(start, folder, weights, shapes, None, generator, cond, data, class_names_of(folder))


def stored_generator(checkpoint: Path) -> Shapes | None:
    """Shapes of the generator's tensors, from the header of a checkpoint's file; None where that cannot be
    read."""
    try:
        with safe_open(checkpoint / "network_g.safetensors", framework="pt") as stored:
            names = stored.keys()
            return {name: tuple(stored.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError):
        return None


def class_names_of(folder: Path) -> tuple[str, ...]:
    """Classes of a run by its newest model, or of a model; empty where there is no model, or no classes."""
    there = [path for path in (folder, folder / "last", folder / "best") if is_model(path)]
    return read_info(there[0]).class_names if there else ()


# For a run's settings --------------------------------------------------------------------------------------


def going_on(settings: NetworkSettings, folder: Path) -> NetworkSettings:
    """The settings of a run in `folder`: one that has checkpoints goes on from these, whatever it began from
    and whether that is still there."""
    return replace(settings, start=str(folder)) if settings.start and is_run(folder) else settings


def from_model(settings: NetworkSettings) -> bool:
    """Whether a run begins from a model, not from a run's checkpoint; what is no start is refused later."""
    try:
        return bool(settings.start) and find_origin(str(settings.start), settings.cond).model is not None
    except ValueError:
        return False


def class_rows(settings: NetworkSettings, names: Sequence[str]) -> Tensor | None:
    """Rows [len(names), D] of the class table that a run's start brings; None where it brings none.

    A start with classes gives its own by name (all of them in order where it has no names), a text model what
    its text encoder reads in the names.
    """
    origin = _brings_classes(settings)
    if origin is None:
        return None
    rows = origin.class_table()
    return (
        read_names(origin, names) if rows is None else rows_by_name(rows, origin.class_names or names, names)
    )


def brings_classes(settings: NetworkSettings) -> bool:
    """Whether a run's start brings class vectors, see `class_rows`."""
    return _brings_classes(settings) is not None


def _brings_classes(settings: NetworkSettings) -> Origin | None:
    if not settings.start or settings.cond != "class":
        return None
    origin = find_origin(settings.start, settings.cond)
    return origin if TABLE in origin.shapes or origin.names_as_classes else None


@torch.no_grad()
def read_names(origin: Origin, names: Sequence[str]) -> Tensor:
    """What the text encoder of a text model reads in the names of classes, [len(names), D]: vectors of unit
    length brought to numbers of unit size, as tables learn at the rate of weights; `names_scale` takes that
    back."""
    encoder = load_text_encoder(f"local:{origin.text_encoder}")
    texts = [name.split(",")[0].replace("_", " ").replace("-", " ").strip() for name in names]
    vectors: Tensor = encoder.encode_text(texts).float().cpu()
    return vectors / names_scale(vectors.shape[1])


def names_scale(dim: int) -> float:
    """By what rows of `read_names` are multiplied to be vectors of the text encoder again."""
    return float(dim**-0.5)


# Feature networks -------------------------------------------------------------------------------------------


def features_of(start: str | None, source: ImageSource) -> Path | None:
    """Folder with the local feature networks of the run that this one starts from; None where they are of
    other classes or there is no such run."""
    if not start or not is_run(Path(start)):
        return None
    names = class_names_of(Path(start))
    same = not names or names == tuple(source.class_names or ())
    return Path(start) / "features" if same else None


def same_features(ours: Sequence[str], run: Path, theirs: Sequence[str], other: Path) -> bool:
    """Whether two runs look through the same networks: equal references, or local ones of equal weights."""
    pairs = [
        (local_references(one, run / "features"), local_references(two, other / "features"))
        for one, two in zip(ours, theirs, strict=False)
    ]
    return len(ours) == len(theirs) and all(one == two or _same_weights(one, two) for one, two in pairs)


def _same_weights(one: str, two: str) -> bool:
    files = [Path(name.removeprefix("local:")) / "model.safetensors" for name in (one, two)]
    return all(file.is_file() for file in files) and files[0].read_bytes() == files[1].read_bytes()
