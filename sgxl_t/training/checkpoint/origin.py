"""What `--start` names, and whether this run can begin there: read from headers, before anything trains."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from sgxl_t.datasets.base import ImageSource
from sgxl_t.model_io.model_folder import (
    CONFIG,
    TEXT_ENCODER,
    WEIGHTS,
    ModelInfo,
    read_info,
    weight_shapes,
)
from sgxl_t.networks.backbones.references import local_references, trained_kinds
from sgxl_t.networks.configs import ConditionName, ConditionSpec, GeneratorConfig
from sgxl_t.networks.frozen import load_text_encoder
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.training.checkpoint.checkpoint import STATE, newest_whole
from sgxl_t.training.config.parts import ConditioningConfig
from sgxl_t.training.config.settings import NetworkSettings
from sgxl_t.training.local_features.config import FeaturesConfig

log = logging.getLogger("sgxl_t")

Shapes = dict[str, tuple[int, ...]]
TABLE = "mapping.embed.weight"
"""The generator's class table."""


@dataclass(frozen=True)
class Origin:
    """What a run begins from.

    folder: of a run, or of a model. model: what a model folder says of itself; None for a run. shapes: of the
    generator's tensors. family, cond: of the generator; None where a checkpoint does not say. class_names:
    empty where they are not known, or there are none.
    """

    folder: Path
    model: ModelInfo | None
    shapes: Shapes
    family: str | None
    cond: str | None
    class_names: tuple[str, ...]


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model as `save_model` writes it."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run with checkpoints."""
    return any((folder / "checkpoints").glob("kimg_*"))


def find_origin(start: str) -> Origin:
    """Looks at what `--start` names; ValueError of one sentence where a run cannot begin there."""
    folder = Path(start)
    if not folder.exists():
        raise ValueError(
            f"start={start} is not there: name a run folder, such as runs/text, or a model folder, such as "
            "runs/text/best"
        )
    if not folder.is_dir():
        made = f", which `sgxl-t import {start} DEST` makes of it" if folder.suffix == ".pkl" else ""
        raise ValueError(f"start={start} is a file: name a run folder or a model folder{made}")
    if is_model(folder) and not is_run(folder):
        return _of_model(folder)
    checkpoint = newest_whole(folder / "checkpoints")
    if checkpoint is None:
        raise ValueError(f"start={start} {_what_it_is(folder)}")
    return _of_run(folder, checkpoint)


def _what_it_is(folder: Path) -> str:
    """Why a folder is no start, and what to name instead."""
    if (folder / "chain.json").is_file():
        return f"is a run of stages: name one of them, such as {folder}/stage_*, or the model {folder}/best"
    if folder.name.startswith("kimg_") and folder.parent.name == "checkpoints":
        return f"is one checkpoint of a run: name the run, {folder.parents[1]}, whose newest one is taken"
    models = [name for name in ("best", "last") if is_model(folder / name)]
    if models:
        return f"holds no whole checkpoint: name {folder / models[0]} to take its generator alone"
    return (
        "holds neither checkpoints nor a model: name a run folder, such as runs/text, or a model folder, "
        "such as runs/text/best"
    )


def _of_model(folder: Path) -> Origin:
    info = read_info(folder)
    family, cond = info.generator.family, info.condition.cond
    return Origin(folder, info, weight_shapes(folder), family, cond, info.class_names)


def _of_run(folder: Path, checkpoint: Path) -> Origin:
    shapes = _generator_shapes(checkpoint)
    if shapes is None:
        raise ValueError(f"start={folder}: {checkpoint} holds no generator: restore it")
    settings = json.loads((checkpoint / STATE).read_text()).get("config", {})
    family, cond = settings.get("generator", {}).get("family"), settings.get("cond")
    return Origin(folder, None, shapes, family, cond, class_names_of(folder))


def _generator_shapes(checkpoint: Path) -> Shapes | None:
    """From the header of a checkpoint's file; None where that cannot be read."""
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


# What follows for a run -------------------------------------------------------------------------------------


def model_of(start: str | None) -> ModelInfo | None:
    """The model folder that `start` names; None for a run, and without a start."""
    folder = Path(start or "")
    return read_info(folder) if start and is_model(folder) and not is_run(folder) else None


def adopt_model(
    start: str | None, cond: ConditionName, generator: GeneratorConfig, conditioning: ConditioningConfig
) -> tuple[GeneratorConfig, ConditioningConfig]:
    """Generator and conditioning of a run that starts from a model folder: it trains that folder's generator.

    Family and sizes are the folder's, where only the side of a stylegan_t generator may be another; captions
    are read with the folder's text encoder.
    """
    info = model_of(start)
    if start is None or info is None or info.condition.cond != cond:  # `check_start` refuses the latter
        return generator, conditioning
    theirs, resolution = info.generator, generator.img_resolution
    if theirs.family == "stylegan_t" == generator.family:
        attention = generator.stylegan_t.attention_resolutions
        sizes = replace(theirs.stylegan_t, attention_resolutions=attention)
        theirs = replace(theirs, img_resolution=resolution, stylegan_t=sizes)
    elif theirs.img_resolution != resolution:
        raise ValueError(
            f"start={start} makes images of {theirs.img_resolution} px and generator.img_resolution "
            f"is {resolution}: set --generator.img_resolution {theirs.img_resolution}"
        )
    if theirs != generator:
        log.info(
            "the run trains the generator of start=%s, %s at %d px, whose sizes are not those configured",
            start,
            theirs.family,
            theirs.img_resolution,
        )
    stored = f"local:{Path(start) / TEXT_ENCODER}"
    reads = (conditioning.text_encoder, conditioning.own_text_encoder)
    if cond == "text" and reads[1] is None and stored not in reads:
        conditioning = replace(conditioning, own_text_encoder=stored)
    return theirs, conditioning


def check_start(settings: NetworkSettings, folder: Path, source: ImageSource) -> None:
    """Whether a new run in `folder` can begin at its start, else ValueError. Resumed runs pass."""
    if not settings.start or is_run(folder):
        return
    origin = find_origin(settings.start)
    _check_kind(settings, origin)
    width = origin.shapes.get(TABLE, (0, 0))[1]
    if origin.model is not None:
        width = origin.model.condition.dim
        _check_reading(settings, origin.model)
    ours = _expected(settings, source, width)
    shared = [name for name, shape in origin.shapes.items() if ours.get(name) == shape]
    if not any(name.startswith("synthesis.") and name.endswith("weight") for name in shared):
        raise ValueError(
            f"start={settings.start} has a generator of other sizes and shares no weights with the one "
            "that is configured: use the configuration that it was trained with (its config.yaml or "
            "config.json)"
        )


def check_resumed(settings: NetworkSettings, folder: Path, source: ImageSource) -> None:
    """Whether the run folder's newest checkpoint is of the generator that is configured, before anything is
    written there; ValueError with a tensor that differs. Damaged ones are for `load_newest` to judge."""
    newest = max((folder / "checkpoints").glob("kimg_*"), default=None)
    stored = None if newest is None else _generator_shapes(newest)
    if newest is None or stored is None:
        return
    width = stored.get(TABLE, (0, 0))[1]
    ours = _expected(settings, source, width)
    known = width > 0 or settings.cond == "none"  # how wide captions are decides on shapes, not on names
    differs = stored.items() ^ ours.items() if known else [(name, ()) for name in stored.keys() ^ ours.keys()]
    if differs:
        name = min(name for name, _ in differs)
        here, there = (str(side.get(name, "missing")) for side in (ours, stored))
        raise ValueError(
            f"checkpoint {newest} was made by other networks than the configuration builds ({name}: {there} "
            f"there, {here} here): use the run's own config.yaml, or a new --run-dir"
        )


def _check_kind(settings: NetworkSettings, origin: Origin) -> None:
    """Family and condition must be the same."""
    family, cond = origin.family, origin.cond
    if cond is not None and cond != settings.cond:
        words = {"class": "makes classes", "text": "makes images from text", "none": "has no condition"}
        raise ValueError(
            f"start={settings.start} {words[cond]} and cond is {settings.cond}: set --cond {cond}, or start "
            f"from a model of --cond {settings.cond}"
        )
    if family not in (None, settings.generator.family):
        raise ValueError(
            f"start={settings.start} has a {family} generator and generator.family is "
            f"{settings.generator.family}: set --generator.family {family} with the sizes of its "
            "configuration"
        )


def _check_reading(settings: NetworkSettings, model: ModelInfo) -> None:
    """The encoder that heads and guidance read captions with gives as many numbers as the generator takes."""
    reference = settings.conditioning.text_encoder
    if settings.cond != "text" or settings.conditioning.own_text_encoder is None:
        return
    auto = bool(trained_kinds(reference))
    given = FeaturesConfig().embed_dim if auto else load_text_encoder(reference).dim
    if given != model.condition.dim:
        raise ValueError(
            f"start={settings.start} takes captions as {model.condition.dim} numbers and "
            f"conditioning.text_encoder={reference} gives {given}: set --conditioning.text_encoder "
            f"local:{model.folder / TEXT_ENCODER}"
        )


def _expected(settings: NetworkSettings, source: ImageSource, width: int) -> Shapes:
    """Shapes of the generator that is going to be trained; width: of its condition, 0 where unknown."""
    tokens = 8 if settings.generator.stylegan_t.attention_resolutions else 0
    spec = {
        "class": ConditionSpec(kind="class", dim=width or 1, num_classes=source.num_classes),
        "text": ConditionSpec(kind="text", dim=width or 1, token_dim=tokens),
        "none": ConditionSpec(),
    }[settings.cond]
    with torch.device("meta"):
        tensors = build_generator(settings.generator, spec).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


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
