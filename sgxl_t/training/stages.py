"""From a configuration with stages to one whole configuration per stage, checked before anything trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sgxl_t.conditioning.model_folder import read_info, weight_shapes
from sgxl_t.datasets.base import ImageSource, open_source
from sgxl_t.networks.configs import GeneratorConfig, SuperresStage
from sgxl_t.networks.generator import check_generator
from sgxl_t.networks.schedule_xl import all_layers
from sgxl_t.training.build import check_source
from sgxl_t.training.config import TrainConfig, config_from_dict, config_to_dict
from sgxl_t.training.stage_config import StageConfig, head_layers_of, stage_name

GUIDED_ABOVE = 32
"""Classifier guidance of the whole chain acts on stages above this many pixels (StyleGAN-XL, section 4)."""


@dataclass(frozen=True)
class Stage:
    """One stage ready to run.

    config: complete, without stages. below: model folder and generator that the stage starts from; None for
    the stem. new_layers, layers: of the head and of the whole generator, ToRGB counted.
    """

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
    root = config.folder()
    below = (Path(config.stem), config.generator) if config.stem else None
    planned: list[Stage] = []
    for stage in config.stages:
        generator = _generator(config, stage, below)
        try:
            check_generator(generator)
            one = _stage_config(config, stage, generator, root, below)
        except ValueError as error:
            raise ValueError(f"stage {stage.resolution}: {error}") from None
        kept, head = all_layers(generator)
        folder = root / stage_name(stage.resolution)
        planned.append(Stage(stage.resolution, folder, one, below, len(head), len(kept) + len(head)))
        below = (folder / "best", one.generator)
    return planned


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


def _stage_config(
    config: TrainConfig,
    stage: StageConfig,
    generator: GeneratorConfig,
    root: Path,
    below: tuple[Path, GeneratorConfig] | None,
) -> TrainConfig:
    """The base configuration with what the stage says in its place; `overrides` win over all else."""
    guided = config.cond == "class" and stage.resolution > GUIDED_ABOVE
    values = config_to_dict(config)
    own: dict[str, Any] = {
        "run_dir": str(root / stage_name(stage.resolution)),
        "stem": str(below[0]) if below else None,
        "stages": [],
        "stage": None,
        "generator": asdict(generator),
        "schedule.kimg": stage.kimg,
        "batch.images": stage.batch,
        "batch.per_device": stage.per_device,
        "optimizer.g_lr": stage.g_lr,
        "optimizer.d_lr": stage.d_lr,
        "objective.cls_weight": None if guided else 0.0,
    }
    encoder = config.conditioning.text_encoder
    if below is not None and not config.stem and config.cond == "text" and encoder.startswith("auto:"):
        # Every stage must read captions with the encoder that the stem was trained on.
        first = root / stage_name(config.stages[0].resolution) / "features"
        own["conditioning.text_encoder"] = f"local:{first / encoder.removeprefix('auto:')}"
    always = ("stem", "stage")
    for key, value in own.items():
        if value is not None or key in always:
            _put(values, key, value)
    if stage.cls_weight is not None:
        _put(values, "objective.cls_weight", stage.cls_weight)
    if below is not None:  # path lengths shape the mapping, which rests in heads
        _put(values, "objective.pl_weight", 0.0)
    for key, value in _flat(stage.overrides):
        if key.split(".")[0] in ("generator", "stages", "stage", "stem", "run_dir", "cond"):
            raise ValueError(
                f"overrides may not set {key}, which the chain decides: set it outside of stages"
            )
        _put(values, key, value)
    return config_from_dict(values)


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
        source = open_source(
            config.data.source,
            resolution=stage.resolution,
            mirror=config.data.mirror,
            reject_limit=config.data.reject_limit,
        )
        check_source(config, source)
        if sources and source.class_names != sources[0].class_names:
            raise ValueError(
                f"stage {stage.resolution} has {source.num_classes} classes in {config.data.source} and the "
                f"stage before {sources[0].num_classes}: give all stages the same classes in the same order"
            )
        sources.append(source)
    return sources


def check_below(stage: Stage) -> None:
    """What a stage starts from must be there and fit; ValueError with what is missing or differs."""
    if stage.below is None:
        return
    folder, expected = stage.below
    if not (folder / "config.json").is_file() or not (folder / "generator.safetensors").is_file():
        raise ValueError(
            f"stage {stage.resolution} starts from {folder}, which is missing: "
            "train the stage below first, or restore the folder"
        )
    info = read_info(folder)
    weight_shapes(folder)
    difference = _difference(asdict(expected), asdict(info.generator))
    if difference:
        raise ValueError(
            f"stage {stage.resolution} starts from {folder}, a generator of another configuration "
            f"({difference}): use the configuration it was trained with, or a new --run-dir"
        )
    if info.condition.kind != stage.config.cond:
        raise ValueError(
            f"stage {stage.resolution} starts from {folder}, whose condition is {info.condition.kind}, but "
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
