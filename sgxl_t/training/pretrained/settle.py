"""What `auto:` stands for in a run: what it began with, else chosen anew; alike on all processes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from sgxl_t.datasets.open import is_embedded
from sgxl_t.training.checkpoint.checkpoint import STATE
from sgxl_t.training.checkpoint.run_folder import CONFIG
from sgxl_t.training.config.auto_networks import AutoNetworks, Place, Use, places
from sgxl_t.training.config.settings import NetworkSettings
from sgxl_t.training.local_features.resolve import table_from_elsewhere
from sgxl_t.training.parallel import watchdog
from sgxl_t.training.parallel.main_process import end_together
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.pretrained.choose import Question, choose
from sgxl_t.training.pretrained.published import PUBLISHED, Processor
from sgxl_t.training.start.origin import from_model, is_run

log = logging.getLogger("sgxl_t")

SCHEMES = ("timm:", "open_clip:")
"""Of published networks."""


def settle(
    settings: NetworkSettings, written: Mapping[str, Any], folder: Path, runtime: Runtime
) -> AutoNetworks:
    """What the main process decides on, on all processes; said once in the log. ValueError as `decide`.

    written: the whole configuration, as config.yaml holds it. folder: of the run.
    """
    watchdog.beat("choosing feature networks", long=True)
    networks = AutoNetworks()
    with end_together(runtime):
        if runtime.is_main:
            processor: Processor = "cpu" if runtime.device.type == "cpu" else "gpu"
            networks, words = decide(settings, written, folder, processor)
            if words is not None:
                log.info(words)
    found = runtime.gather_objects(networks)[0]
    assert isinstance(found, AutoNetworks)
    return found


def decide(
    settings: NetworkSettings,
    written: Mapping[str, Any],
    folder: Path,
    processor: Processor,
    *,
    fetch: bool = True,
) -> tuple[AutoNetworks, str | None]:
    """Published networks for the run's uses of `auto:`, and a sentence about them, None for nothing to say.

    A run that has begun keeps what it began with, and one that starts from a run takes what that has. fetch:
    download what a new run is going to take. ValueError of one sentence where published networks are asked
    for and cannot be had, or a run has begun with others than it is now told to take.
    """
    uses = _uses(settings, written)
    if not uses:
        return AutoNetworks(), None
    mode = written["features"]
    before = _remembered(uses, written, folder)
    if before is not None:
        if _has_begun(folder):
            _check_same(mode, uses, before, folder, processor)
        if mode == "auto" or _has_begun(folder):
            return before, _as("as the run began", before)
    if mode == "local":
        return AutoNetworks(features="local"), None
    if mode == "auto" and settings.start and not from_model(settings):
        theirs = _remembered(uses, written, Path(settings.start))
        if theirs is not None:
            return theirs, _as(f"as start={settings.start} has them", theirs)
    question = Question(
        uses=uses,
        processor=processor,
        wanted=mode == "pretrained",
        pictures_read=settings.pictures_read,
        left=_left_local(settings, uses, str(written["data"]["source"])),
        fetch=fetch,
    )
    return choose(question)


def _uses(settings: NetworkSettings, written: Mapping[str, Any]) -> list[Use]:
    """Uses of `auto:` that this run has, each once."""
    unused = set()
    if settings.cond != "class" or table_from_elsewhere(settings):
        unused.add("class")
    if settings.cond != "text":
        unused.add("text")
    found = [use for place in places(written) if place.role not in unused for _, use in place.parts()]
    return list(dict.fromkeys(use for use in found if use is not None))


def _left_local(settings: NetworkSettings, uses: list[Use], data: str) -> dict[Use, str]:
    """Uses that `auto` leaves to networks of the run's own, with the reason."""
    if is_embedded(data):
        why = f"the settings for {data} are made for them (--features pretrained takes published ones)"
        return dict.fromkeys(uses, why)
    if settings.cond == "text" and from_model(settings):
        why = f"start={settings.start} is a model, whose captions are numbers of a width of their own"
        return {use: why for use in uses if use.role == "text"}
    return {}


# Runs that have begun ----------------------------------------------------------------------------------


def _remembered(uses: list[Use], written: Mapping[str, Any], run: Path) -> AutoNetworks | None:
    """What a run's stored configuration has in the places where this one says `auto:`; None without one."""
    newest = max((run / "checkpoints").glob("kimg_*"), default=run)
    for read in (partial(_in_file, run), partial(_in_checkpoint, newest)):
        with suppress(OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError):
            stored = read()
            return _taken(uses, written, stored, {place.where: place for place in places(stored)})
    return None


def _in_file(run: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((run / CONFIG).read_text()))


def _in_checkpoint(checkpoint: Path) -> dict[str, Any]:
    return dict(json.loads((checkpoint / STATE).read_text())["config"])


def _taken(
    uses: list[Use], written: Mapping[str, Any], stored: Mapping[str, Any], theirs: Mapping[str, Place]
) -> AutoNetworks:
    named: dict[Use, str] = {}
    for place in places(written):
        there = theirs.get(place.where)
        old = [] if there is None else there.parts()
        if len(old) != len(place.parts()):
            continue
        for (_, use), (reference, _) in zip(place.parts(), old, strict=True):
            if use in uses and use is not None and reference.startswith(SCHEMES):
                named.setdefault(use, reference)
    whole = len(named) == len(uses)
    family = stored["discriminator"].get(written["discriminator"]["family"])
    side = family.get("input_size") if isinstance(family, dict) else None
    seen = any(use.role not in ("class", "text") for use in named)
    return AutoNetworks(
        named, side if seen and isinstance(side, int) else None, "pretrained" if whole else "local"
    )


def _has_begun(folder: Path) -> bool:
    """Whether a run, or a stage of it, has checkpoints."""
    return is_run(folder) or any(is_run(stage) for stage in folder.glob("stage_*"))


def _check_same(mode: str, uses: list[Use], before: AutoNetworks, folder: Path, processor: Processor) -> None:
    """ValueError where a run that has begun is told to take other networks."""
    way_out = "leave --features out to go on with them, or name another --run-dir"
    if mode == "local" and before.named:
        names = ", ".join(dict.fromkeys(before.named.values()))
        raise ValueError(f"features=local, but the run in {folder} learns through {names}: {way_out}")
    own = [use.kind for use in uses if use in PUBLISHED[processor] and use not in before.named]
    if mode == "pretrained" and own:
        names = ", ".join(f"auto:{kind}" for kind in dict.fromkeys(own))
        raise ValueError(
            f"features=pretrained, but the run in {folder} has trained networks of its own for {names}: "
            f"{way_out}"
        )


def _as(origin: str, networks: AutoNetworks) -> str | None:
    names = ", ".join(dict.fromkeys(networks.named.values()))
    return f"feature networks: {names}, {origin}" if names else None
