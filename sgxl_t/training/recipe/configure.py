"""From a command that names own data and no configuration to the whole configuration of its run."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import yaml

from sgxl_t.datasets.base import Sample
from sgxl_t.files.terminal import say
from sgxl_t.networks.configs import ConditionKind, GeneratorConfig
from sgxl_t.training.checkpoint.run_folder import CONFIG, RECIPE
from sgxl_t.training.checks import check_source
from sgxl_t.training.config.auto_networks import TEXT
from sgxl_t.training.config.config import TrainConfig
from sgxl_t.training.config.config_file import parse_config, preset_path, typed_settings
from sgxl_t.training.config.parts import DataConfig
from sgxl_t.training.config.settings import NetworkSettings
from sgxl_t.training.config.stage_config import flat_settings
from sgxl_t.training.loop.data import open_data
from sgxl_t.training.parallel.main_process import end_together, newest_checkpoint, refuse
from sgxl_t.training.parallel.runtime import LAUNCHED_PRECISION, Runtime
from sgxl_t.training.pretrained.settle import decide
from sgxl_t.training.recipe import rules
from sgxl_t.training.recipe.choose import (
    COND,
    KIMG,
    SIDE,
    START,
    Machine,
    Recipe,
    choose,
    to_try,
    too_few,
    worth_trying,
)
from sgxl_t.training.recipe.speed import FewPictures, measure_speed
from sgxl_t.training.recipe.survey import Survey, look
from sgxl_t.training.recipe.wanted import without_printing
from sgxl_t.training.recipe.words import duration, found, recipe_yaml, table
from sgxl_t.training.start.follow import OWN_TEXT, Beginning, followed

log = logging.getLogger("sgxl_t")

LOOKED_AT_SIDE = 64
IN_FLOAT32 = f"{LAUNCHED_PRECISION}=no before the command: float32"
MINUTES, FIT = "schedule.max_minutes", "schedule.fit_minutes"


@dataclass(frozen=True)
class Chosen:
    """config: of the run. recipe: text of RECIPE in its folder; None where a run goes on, or another
    configuration was given."""

    config: TrainConfig
    recipe: str | None = None


def chosen_for(arguments: list[str], runtime: Runtime) -> Chosen:
    """The configuration of a run whose command `wants_recipe`; all processes call it and get the same.

    A run that is there goes on with its own settings. Prints what was found and chosen. Nothing is written.
    """
    plain = without_printing(arguments)
    given = typed_settings(plain)
    with end_together(runtime):
        stored = _stored(given) if runtime.is_main else None
    stored = runtime.gather_objects(stored)[0]
    if stored is not None:
        # Who names a length wants that one, and not what fits the minutes.
        by_kimg = ["--schedule.fit_minutes=false"] if KIMG in given and FIT not in given else []
        return Chosen(parse_config([*arguments, *by_kimg], base=stored))
    first = parse_config(plain)
    with end_together(runtime):
        source = open_data(first.data, GeneratorConfig(img_resolution=LOOKED_AT_SIDE))
        if COND in given:
            check_source(first.network_settings(), first.data, first.log, source)
        survey, samples = look(source)
    survey = runtime.gather_objects(survey)[0]
    minutes = float(given.get(MINUTES, rules.MINUTES))
    gpu = runtime.device.type != "cpu"
    if (few := too_few(survey)) is not None:
        refuse(runtime, f"{first.data.source}: {few}")
    trial = _Trial(plain, given, samples, source.class_names, runtime)
    with end_together(runtime):
        published = runtime.is_main and _published(
            first.network_settings(), first.to_dict(), first.folder(), gpu
        )
    machine = Machine(gpu=gpu, processes=runtime.world_size, published=runtime.gather_objects(published)[0])
    recipe = runtime.gather_objects(_recipe(trial, survey, machine, minutes))[0]
    values = _values(recipe, given)
    told = _tell(first.data.source, survey, recipe, given, runtime)
    config = parse_config(arguments, base=yaml.safe_dump(values))
    before = f"{LAUNCHED_PRECISION}=bf16 " if _bf16_unasked(runtime) else ""
    again = f"the same again: {before}sgxl-t train --config {config.folder() / RECIPE} --out OTHER"
    if runtime.is_main:
        say(again, err=True)
    return Chosen(config, recipe_yaml(values, [*told, again]))


# A run that is there ---------------------------------------------------------------------------------------


def _stored(given: Mapping[str, Any]) -> str | None:
    """The configuration of the run that the command would go on with, as YAML; None where there is none."""
    for folder in _folders(given):
        if not (folder / CONFIG).is_file():
            continue
        try:
            text = (folder / CONFIG).read_text()
            values = yaml.safe_load(text)
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            values = None
        if not isinstance(values, dict):
            raise ValueError(
                f"{folder / CONFIG} is not the configuration of a run: restore it, or name another folder "
                "with --out"
            )
        data = values.get("data")
        same = isinstance(data, dict) and data.get("source") == given["data.source"]
        if same or ("run_dir" in given and newest_checkpoint(folder) is not None):
            log.info("%s is there: its settings are taken, and nothing is chosen anew", folder)
            return text
    return None


def _folders(given: Mapping[str, Any]) -> list[Path]:
    """Where the run may lie: the condition, which names the folder, is not known yet."""
    if "run_dir" in given:
        return [Path(given["run_dir"])]
    conditions = [given["cond"]] if "cond" in given else get_args(ConditionKind)
    data = DataConfig(source=given["data.source"])
    return [TrainConfig(cond=cond, data=data).folder() for cond in conditions]


# A new run -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trial:
    """What a trial of a size is made from: the command, its settings, and pictures."""

    arguments: list[str]
    given: Mapping[str, Any]
    samples: list[Sample]
    names: tuple[str, ...] | None
    runtime: Runtime

    def at(self, px: int, survey: Survey, machine: Machine, minutes: float) -> Machine:
        """The machine with its speed at a side, in pixels; all processes call it."""
        # Of the settings of a trial the length says nothing: any will do.
        given = {**self.given, SIDE: px, KIMG: 1.0}
        values = _values(choose(survey, machine, minutes, given), given)
        config = parse_config(self.arguments, base=yaml.safe_dump(values))
        gray = config.generator.img_channels == 1
        pictures = FewPictures(self.samples, self.names, side=px, gray=gray)
        speed = measure_speed(config.to_dict(), pictures, self.runtime)
        if speed is None and not machine.speeds:
            raise MemoryError(f"also at {px} px")
        return machine if speed is None else replace(machine, speeds={**machine.speeds, px: speed})


def _published(settings: NetworkSettings, written: Mapping[str, Any], folder: Path, gpu: bool) -> bool:
    """Whether the discriminator of a new run, with a start, would look through published networks."""
    settings = replace(settings, start=rules.START)
    networks, _ = decide(settings, written, folder, "gpu" if gpu else "cpu", fetch=False)
    return any(use.role == settings.discriminator.family for use in networks.named)


def _recipe(trial: _Trial, survey: Survey, machine: Machine, minutes: float) -> Recipe:
    """Tries the sides that come into question, small to large, and chooses."""
    for px in to_try(survey, machine, trial.given):
        if not worth_trying(px, machine, minutes):
            break
        if trial.runtime.is_main:
            log.info("measuring how fast this machine trains %d px", px)
        machine = trial.at(px, survey, machine, minutes)
    return choose(survey, machine, minutes, trial.given)


def _values(recipe: Recipe, given: Mapping[str, Any]) -> dict[str, Any]:
    """The preset of the condition, what follows from a start, what was chosen, and what was given, nested as
    YAML files are."""
    preset = yaml.safe_load(preset_path(recipe.cond).read_text())
    values: dict[str, Any] = {}
    kept = {key: value for key, value in given.items() if key != "run_dir"}
    follows = {}
    if START in recipe.settings:
        beginning = Beginning(recipe.settings[START], recipe.cond, given["data.source"], given, tuned=False)
        follows = followed(beginning)
        if OWN_TEXT in follows:  # heads read captions with it as well, so that no CLIP has to be trained
            follows[TEXT] = follows.pop(OWN_TEXT)
    for key, value in {**dict(flat_settings(preset)), **follows, **recipe.settings, **kept}.items():
        *groups, last = key.split(".")
        inner = values
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return values


def _tell(
    source: str, survey: Survey, recipe: Recipe, given: Mapping[str, Any], runtime: Runtime
) -> list[str]:
    """Prints data, table and time on stderr, once; returns the lines."""
    lines = [found(source, survey), *table(recipe)]
    if (time := duration(recipe)) is not None:
        lines.append(time)
        if MINUTES not in given:
            lines.append(f"no --minutes given: {rules.MINUTES:g} are taken")
    if _bf16_unasked(runtime):
        lines.append(f"computes in bfloat16, which this processor has instructions for ({IN_FLOAT32})")
    if runtime.is_main:
        for line in lines:
            say(line, err=True)
    return lines


def _bf16_unasked(runtime: Runtime) -> bool:
    return runtime.precision == "bf16" and LAUNCHED_PRECISION not in os.environ
