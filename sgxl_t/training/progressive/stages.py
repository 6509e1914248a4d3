"""From a configuration with stages to one whole configuration per stage, checked before anything trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sgxl_t.datasets.base import ImageSource
from sgxl_t.model_io.model_folder import read_info, weight_shapes
from sgxl_t.networks.backbones.references import local_references, trained_kinds
from sgxl_t.networks.configs import GeneratorConfig, SuperresStage
from sgxl_t.networks.generators.generator import check_generator
from sgxl_t.networks.generators.schedule_xl import all_layers
from sgxl_t.networks.generators.synthesis_t import block_resolutions
from sgxl_t.training.build import check_source
from sgxl_t.training.checkpoint.origin import check_start, is_model
from sgxl_t.training.config.config import TrainConfig
from sgxl_t.training.config.config_file import config_from_dict, config_to_dict
from sgxl_t.training.config.stage_config import StageConfig, head_layers_of, stage_folder, stage_label
from sgxl_t.training.loop.data import open_data

NONE = object()
"""Stands for a setting of none where None leaves it alone."""
DECIDED = ("generator", "stages", "stage", "stem", "start", "run_dir", "cond")
"""Settings that a stage cannot override."""
GUIDED_ABOVE = 32
"""Classifier guidance of the whole chain acts on stages above this many pixels (StyleGAN-XL, section 4)."""


@dataclass(frozen=True)
class Stage:
    """One stage ready to run.

    config: complete, without stages. below: model folder and generator that the stage starts from; None for
    the first. new_layers, layers: that train, and of the whole generator, ToRGB counted.
    """

    label: str
    resolution: int
    folder: Path
    config: TrainConfig
    below: tuple[Path, GeneratorConfig] | None
    new_layers: int
    layers: int

    @property
    def best(self) -> Path:
        """Model folder that the next stage starts from."""
        return self.folder / "best"


def plan_stages(config: TrainConfig) -> list[Stage]:
    """All stages of the chain, low to high; ValueError names the stage whose settings cannot work."""
    plan = _grown if config.generator.family == "stylegan3" else _phase
    planned: list[Stage] = []
    for stage in config.stages:
        try:
            planned.append(plan(config, stage, planned))
        except ValueError as error:
            raise ValueError(f"stage {stage_label(stage)}: {error}") from None
    return planned


def _grown(config: TrainConfig, stage: StageConfig, before: Sequence[Stage]) -> Stage:
    """A stage of a stylegan3 generator: a new head on the best model below (StyleGAN-XL, section 3.3)."""
    below = (Path(config.stem), config.generator) if config.stem else None
    if before:
        below = (before[-1].best, before[-1].config.generator)
    generator = _generator(config, stage, below)
    check_generator(generator)
    guided = config.cond == "class" and stage.resolution > GUIDED_ABOVE
    own = {
        "stem": str(below[0]) if below else None,
        "objective.cls_weight": stage.cls_weight if guided or stage.cls_weight is not None else 0.0,
    }
    # Path lengths shape the mapping, which rests in heads; a stem has nothing below to stay close to.
    own["objective.stem_weight" if below is None else "objective.pl_weight"] = 0.0
    encoder = config.conditioning.text_encoder
    if before and not config.stem and config.cond == "text" and trained_kinds(encoder):
        # Every stage must read captions with the encoder that the stem was trained on.
        own["conditioning.text_encoder"] = local_references(encoder, before[0].folder / "features")
    kept, head = all_layers(generator)
    return _stage(config, stage, generator, own, below, (len(head), len(kept) + len(head)))


def _generator(
    config: TrainConfig, stage: StageConfig, below: tuple[Path, GeneratorConfig] | None
) -> GeneratorConfig:
    if below is None:
        return replace(config.generator, img_resolution=stage.resolution)
    sizes = below[1].stylegan3
    head = SuperresStage(
        head_layers=head_layers_of(stage), up_factor=stage.up_factor or 2, conv_clamp=sizes.conv_clamp
    )
    return replace(
        below[1],
        img_resolution=stage.resolution,
        stylegan3=replace(sizes, superres=(*sizes.superres, head)),
    )


def _phase(config: TrainConfig, stage: StageConfig, before: Sequence[Stage]) -> Stage:
    """A stage of a stylegan_t generator: all networks and optimisers go on from the stage before."""
    generator = replace(config.generator, img_resolution=stage.resolution)
    own: dict[str, Any] = {"objective.cls_weight": stage.cls_weight, "freeze_below": stage.freeze_below}
    if stage.train is not None:
        own["conditioning.train_text_encoder"] = stage.train != "generator"
        own["freeze_generator"] = stage.train == "text_encoder"
    below = None
    if before:
        below = (before[-1].folder / "last", before[-1].config.generator)
        own |= _continued(config, before)
    sides = block_resolutions(stage.resolution)
    per_block = 2 + 2 * generator.stylegan_t.num_res_blocks
    resting = sum(side < (stage.freeze_below or 0) for side in sides)
    training = 0 if stage.train == "text_encoder" else len(sides) - resting
    layers = training * per_block, len(sides) * per_block
    return _stage(config, stage, generator, own, below, layers)


def _continued(config: TrainConfig, before: Sequence[Stage]) -> dict[str, Any]:
    """What a later phase takes from those before: networks, features, text towers, and averages and blur that
    do not begin again."""
    last, trained = before[-1].config, before[-1].folder / "features"
    found: dict[str, Any] = {
        "start": str(before[-1].folder),
        "objective.blur_init_sigma": 0.0,
        "ema.rampup": NONE,
        "discriminator.features": [local_references(one, trained) for one in last.discriminator.features],
    }
    if config.cond == "text":
        found["conditioning.text_encoder"] = local_references(last.conditioning.text_encoder, trained)
    if any(stage.config.conditioning.train_text_encoder for stage in before):
        found["conditioning.own_text_encoder"] = f"local:{before[-1].folder / 'last' / 'text_encoder'}"
    return found


def _stage(
    config: TrainConfig,
    stage: StageConfig,
    generator: GeneratorConfig,
    own: Mapping[str, Any],
    below: tuple[Path, GeneratorConfig] | None,
    layers: tuple[int, int],
) -> Stage:
    """The base configuration with what the stage says in its place; `overrides` win over all else.

    own: dotted keys of what follows from the stage's place in the chain; None leaves a key alone, NONE sets
    it to none. layers: that train, and all.
    """
    folder = config.folder() / stage_folder(stage)
    values = config_to_dict(config)
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
    for key, value in _flat(stage.overrides):
        if key.split(".")[0] in DECIDED:
            raise ValueError(
                f"overrides may not set {key}, which the chain decides: set it outside of stages"
            )
        _put(values, key, value)
    values["data"]["allow_pipe"] = config.data.allow_pipe  # only the command line allows commands
    one = config_from_dict(values)
    return Stage(stage_label(stage), stage.resolution, folder, one, below, *layers)


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key of nested settings; a key that is not there stays for the parser to refuse."""
    *groups, last = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise ValueError(f"overrides names {key}, but {group} holds no further settings: check the key")
    values[last] = value


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as dotted keys and values."""
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        found += _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return found


def check_plan(todo: Sequence[Stage], world_size: int) -> list[ImageSource]:
    """What a run of these stages needs from data and processes; ValueError before anything trains."""
    sources: list[ImageSource] = []
    for stage in todo:
        config = stage.config
        config.rounds(world_size)
        source = open_data(config.data, config.generator)
        check_source(config, source)
        if stage.below is None:
            check_start(config, source)
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
