"""Whether a run can begin at its start, or go on from its checkpoint, found out before anything trains."""

from __future__ import annotations

from pathlib import Path

import torch

from sgxl_t.datasets.base import ImageSource
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.frozen import load_text_encoder
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.training.config.settings import NetworkSettings
from sgxl_t.training.start.origin import TABLE, Origin, Shapes, find_origin, is_run, stored_generator


def check_start(settings: NetworkSettings, folder: Path, source: ImageSource) -> None:
    """Whether a new run in `folder` can begin at its start, else ValueError. Resumed runs pass."""
    if not settings.start or is_run(folder):
        return
    origin = find_origin(settings.start, settings.cond)
    _check_sizes(settings, origin)
    if origin.cond == settings.cond == "text":
        _check_reading(settings, origin)
    ours = _expected(settings, source, 0 if origin.model is None else origin.model.condition.dim)
    shared = [name for name, shape in origin.shapes.items() if ours.get(name) == shape]
    if not any(name.startswith("synthesis.") and name.endswith("weight") for name in shared):
        raise ValueError(
            f"start={settings.start} has a generator of other sizes and shares no weights with the one "
            f"that is configured: leave generator.{settings.generator.family} out, so that its sizes follow "
            "the start"
        )


def check_resumed(settings: NetworkSettings, folder: Path, source: ImageSource) -> None:
    """Whether the run folder's newest checkpoint is of the generator that is configured, before anything is
    written there; ValueError with a tensor that differs. Damaged ones are for `load_newest` to judge."""
    newest = max((folder / "checkpoints").glob("kimg_*"), default=None)
    stored = None if newest is None else stored_generator(newest)
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


def _check_sizes(settings: NetworkSettings, origin: Origin) -> None:
    """Family and latents must be the same; a stylegan3 generator also keeps its resolution."""
    ours, theirs, start = settings.generator, origin.generator, settings.start
    family, latents, resolution = (theirs.get(key) for key in ("family", "z_dim", "img_resolution"))
    if family not in (None, ours.family):
        raise ValueError(
            f"start={start} has a {family} generator and generator.family is {ours.family}: leave "
            f"generator.family out, or set it to {family}"
        )
    if latents not in (None, ours.z_dim):
        raise ValueError(
            f"start={start} takes latents of {latents} numbers and generator.z_dim is {ours.z_dim}: leave "
            f"generator.z_dim out, or set it to {latents}"
        )
    if ours.family == "stylegan3" and resolution not in (None, ours.img_resolution):
        raise ValueError(
            f"start={start} makes images of {resolution} px and generator.img_resolution is "
            f"{ours.img_resolution}: set --resolution {resolution}, or grow it by a head, with its model "
            "folder in stem and generator.stylegan3.superres"
        )


def _check_reading(settings: NetworkSettings, origin: Origin) -> None:
    """The generator reads captions by as many numbers as the start's did; heads and guidance read them by the
    frozen encoder, of any width."""
    own = settings.conditioning.own_text_encoder
    if own is None or origin.model is None:
        return
    given = load_text_encoder(own).dim
    if given != origin.model.condition.dim:
        raise ValueError(
            f"start={settings.start} takes captions as {origin.model.condition.dim} numbers and "
            f"conditioning.own_text_encoder={own} gives {given}: set --conditioning.own_text_encoder "
            f"local:{origin.text_encoder}"
        )


def _expected(settings: NetworkSettings, source: ImageSource, width: int) -> Shapes:
    """Shapes of the generator that is going to be trained; width: of its condition, 0 where unknown."""
    tokens = 8 if settings.generator.stylegan_t.attention_resolutions else 0
    pictures = 8 if settings.generator.stylegan_t.instances else 0
    spec = {
        "class": ConditionSpec(kind="class", dim=width or 1, num_classes=source.num_classes),
        "text": ConditionSpec(kind="text", dim=width or 1, token_dim=tokens, picture_dim=pictures),
        "none": ConditionSpec(),
    }[settings.cond]
    with torch.device("meta"):
        tensors = build_generator(settings.generator, spec).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
