"""From a run's configuration to one whole configuration per stage, checked before anything trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sgxl_t.datasets.base import ImageSource
from sgxl_t.model_io.model_folder import read_info, weight_shapes
from sgxl_t.networks.backbones.references import local_references, trained_kinds
from sgxl_t.networks.configs import ConditionName, GeneratorConfig, SuperresStage
from sgxl_t.networks.generators.generator import check_generator
from sgxl_t.networks.generators.schedule_xl import all_layers
from sgxl_t.networks.generators.synthesis_t import block_resolutions
from sgxl_t.training.checks import check_source
from sgxl_t.training.config.config import TrainConfig
from sgxl_t.training.config.config_file import config_from_dict
from sgxl_t.training.config.stage_config import (
    StageConfig,
    flat_settings,
    head_layers_of,
    stage_folder,
    stage_label,
)
from sgxl_t.training.loop.data import open_data
from sgxl_t.training.start.check import check_start
from sgxl_t.training.start.origin import is_model

NONE = object()
"""Stands for a setting of none where None leaves it alone."""
DECIDED = ("generator", "stages", "stage", "stem", "start", "run_dir", "cond")
"""Settings that a stage cannot override."""
GUIDED_ABOVE = 32
"""Classifier guidance acts on stages above this many pixels (StyleGAN-XL, section 4)."""


@dataclass(frozen=True)
class Stage:
    """One stage ready to run, or a run without stages as its only one.

    config: complete, without stages. below: model folder and generator that the stage starts from; None for
    the first. new_layers, layers: that train, and of the whole generator, ToRGB counted; 0 without stages.
    """

    label: str
    resolution: int
    folder: Path
    config: TrainConfig
    below: tuple[Path, GeneratorConfig] | None = None
    new_layers: int = 0
    layers: int = 0

    @property
    def best(self) -> Path:
        """Model folder that the next stage starts from."""
        return self.folder / "best"


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run as its stages, low to high, and what these share.

    stages: one without a label where the configuration has none. only: the stage to train, None for all.
    written: the configuration of the whole run, as its config.yaml holds it. data: name of the source.
    """

    folder: Path
    stages: list[Stage]
    only: str | None
    written: dict[str, Any]
    data: str
    cond: ConditionName
    seed: int
    max_minutes: float | None

    @property
    def has_stages(self) -> bool:
        """Whether the configuration lists stages."""
        return self.stages[0].label != ""

    def wanted(self) -> list[Stage]:
        """All stages, or the one that is named."""
        return [stage for stage in self.stages if self.only in (None, stage.label)]


def plan_run(config: TrainConfig) -> RunPlan:
    """The stages of a run; ValueError names the stage whose settings cannot work."""
    planner = _Planner(config)
    for stage in config.stages:
        try:
            planner.planned.append(planner.plan(stage))
        except ValueError as error:
            raise ValueError(f"stage {stage_label(stage)}: {error}") from None
    alone = Stage("", config.generator.img_resolution, config.folder(), config)
    return RunPlan(
        folder=config.folder(),
        stages=planner.planned or [alone],
        only=config.stage,
        written=config.to_dict(),
        data=config.data.source,
        cond=config.cond,
        seed=config.seed,
        max_minutes=config.schedule.max_minutes,
    )


@dataclass
class _Planner:
    """Makes one whole configuration of each stage, after those before it."""

    config: TrainConfig
    planned: list[Stage] = field(default_factory=list)

    def plan(self, stage: StageConfig) -> Stage:
        """The next stage."""
        return self._grown(stage) if self.config.generator.family == "stylegan3" else self._phase(stage)

    def _grown(self, stage: StageConfig) -> Stage:
        """A stage of a stylegan3 generator: a new head on the best model below (StyleGAN-XL, section 3.3)."""
        config, before = self.config, self.planned
        below = (Path(config.stem), config.generator) if config.stem else None
        if before:
            below = (before[-1].best, before[-1].config.generator)
        generator = _with_head(config.generator, stage, None if below is None else below[1])
        check_generator(generator)
        guided = config.cond == "class" and stage.resolution > GUIDED_ABOVE
        own = {
            "stem": str(below[0]) if below else None,
            "objective.cls_weight": stage.cls_weight if guided or stage.cls_weight is not None else 0.0,
        }
        # Path lengths shape the mapping, which is frozen in heads; a stem has nothing below to stay close to.
        own["objective.stem_weight" if below is None else "objective.pl_weight"] = 0.0
        encoder = config.conditioning.text_encoder
        if before and not config.stem and config.cond == "text" and trained_kinds(encoder):
            # Every stage must read captions with the encoder that the stem was trained on.
            own["conditioning.text_encoder"] = local_references(encoder, before[0].folder / "features")
        kept, head = all_layers(generator)
        return self._stage(stage, generator, own, below, (len(head), len(kept) + len(head)))

    def _phase(self, stage: StageConfig) -> Stage:
        """A stage of a stylegan_t generator: all networks and optimisers go on from the stage before."""
        generator = replace(self.config.generator, img_resolution=stage.resolution)
        own: dict[str, Any] = {"objective.cls_weight": stage.cls_weight, "freeze_below": stage.freeze_below}
        if stage.train is not None:
            own["conditioning.train_text_encoder"] = stage.train != "generator"
            own["freeze_generator"] = stage.train == "text_encoder"
        below = None
        if self.planned:
            last = self.planned[-1]
            below = (last.folder / "last", last.config.generator)
            own |= self._continued(last)
        sides = block_resolutions(stage.resolution)
        per_block = 2 + 2 * generator.stylegan_t.num_res_blocks
        frozen = sum(side < (stage.freeze_below or 0) for side in sides)
        training = 0 if stage.train == "text_encoder" else len(sides) - frozen
        layers = training * per_block, len(sides) * per_block
        return self._stage(stage, generator, own, below, layers)

    def _continued(self, before: Stage) -> dict[str, Any]:
        """What a later phase takes from the one before: networks, features, text encoders, and averages and
        blur that do not begin again."""
        last, trained = before.config, before.folder / "features"
        found: dict[str, Any] = {
            "start": str(before.folder),
            "objective.blur_init_sigma": 0.0,
            "ema.rampup": NONE,
            "discriminator.features": [local_references(one, trained) for one in last.discriminator.features],
        }
        if self.config.cond == "text":
            found["conditioning.text_encoder"] = local_references(last.conditioning.text_encoder, trained)
        if any(stage.config.conditioning.train_text_encoder for stage in self.planned):
            found["conditioning.own_text_encoder"] = f"local:{before.folder / 'last' / 'text_encoder'}"
        return found

    def _stage(
        self,
        stage: StageConfig,
        generator: GeneratorConfig,
        own: Mapping[str, Any],
        below: tuple[Path, GeneratorConfig] | None,
        layers: tuple[int, int],
    ) -> Stage:
        """The base configuration with what the stage says in its place; `overrides` win over all else.

        own: dotted keys of what follows from the stage's place among the others; None leaves a key alone,
        NONE sets it to none. layers: that train, and all.
        """
        folder = self.config.folder() / stage_folder(stage)
        values = self.config.to_dict()
        said: dict[str, Any] = {
            "run_dir": str(folder),
            "stages": [],
            "stage": NONE,
            "generator": asdict(generator),
            "schedule.kimg": stage.kimg,
            "batch.images": stage.batch,
            "batch.per_device": stage.per_device,
            "optimizer.g_lr": stage.g_lr,
            "optimizer.d_lr": stage.d_lr,
            "objective.clip_weight": stage.clip_weight,
            **own,
        }
        for key, value in said.items():
            if value is not None:
                _put(values, key, None if value is NONE else value)
        for key, value in flat_settings(stage.overrides):
            if key.split(".")[0] in DECIDED:
                raise ValueError(
                    f"overrides may not set {key}, which the run decides: set it outside of stages"
                )
            _put(values, key, value)
        values["data"]["allow_pipe"] = self.config.data.allow_pipe  # only the command line allows commands
        one = config_from_dict(values)
        return Stage(stage_label(stage), stage.resolution, folder, one, below, *layers)


def _with_head(base: GeneratorConfig, stage: StageConfig, below: GeneratorConfig | None) -> GeneratorConfig:
    """The generator of a stage: `base` at its resolution, or the one `below` with a head more."""
    if below is None:
        return replace(base, img_resolution=stage.resolution)
    sizes = below.stylegan3
    head = SuperresStage(
        head_layers=head_layers_of(stage), up_factor=stage.up_factor or 2, conv_clamp=sizes.conv_clamp
    )
    heads = replace(sizes, superres=(*sizes.superres, head))
    return replace(below, img_resolution=stage.resolution, stylegan3=heads)


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key of nested settings; a key that is not there stays for the parser to refuse."""
    *groups, last = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise ValueError(f"overrides names {key}, but {group} holds no further settings: check the key")
    values[last] = value


def check_plan(todo: Sequence[Stage], world_size: int) -> list[ImageSource]:
    """What a run of these stages needs from data and processes; ValueError before anything trains."""
    sources: list[ImageSource] = []
    for stage in todo:
        config = stage.config
        config.rounds(world_size)
        settings = config.network_settings()
        source = open_data(config.data, config.generator)
        check_source(settings, config.data, config.log, source)
        if stage.below is None:
            check_start(settings, config.folder(), source)
        if sources and source.class_names != sources[0].class_names:
            raise ValueError(
                f"stage {stage.label} has {source.num_classes} classes in {config.data.source} and the "
                f"stage before {sources[0].num_classes}: give all stages the same classes in the same order"
            )
        sources.append(source)
    return sources


def check_below(stage: Stage) -> None:
    """What a stage starts from must be there and fit; ValueError with what is missing or differs."""
    if stage.below is None:
        return
    folder, expected = stage.below
    if not is_model(folder):
        raise ValueError(
            f"stage {stage.label} starts from {folder}, which is missing: "
            "train the stage below first, or restore the folder"
        )
    info = read_info(folder)
    weight_shapes(folder)
    difference = _difference(asdict(expected), asdict(info.generator))
    if difference:
        raise ValueError(
            f"stage {stage.label} starts from {folder}, a generator of another configuration "
            f"({difference}): use the configuration it was trained with, or a new --run-dir"
        )
    if info.condition.cond != stage.config.cond:
        raise ValueError(
            f"stage {stage.label} starts from {folder}, whose condition is {info.condition.cond}, but "
            f"cond={stage.config.cond}: train all stages on one condition"
        )


def _difference(expected: Mapping[str, Any], found: Mapping[str, Any], prefix: str = "") -> str:
    """The first setting that differs, in words; empty when none does. Unused families do not count."""
    for key, value in expected.items():
        if key == "stylegan_t":
            continue
        other = found.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            inner = _difference(value, other, f"{prefix}{key}.")
            if inner:
                return inner
        elif value != other:
            shown = (str(side)[:120] for side in (other, value))
            return "{}={} instead of {}".format(f"{prefix}{key}", *shown)
    return ""
