"""Stages in a configuration and their rules.

A stylegan3 generator grows by a head per stage (StyleGAN-XL, section 3.3). A stylegan_t generator goes
through phases: its networks go on, at the same side or a larger one, with other parts trained (StyleGAN-T,
section 3.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sgxl_t.networks.generators.schedule_xl import UP_FACTORS

LAST_SIDE, LAST_HEAD_LAYERS, HEAD_LAYERS = 1024, 5, 7
"""Heads have seven layers beside ToRGB; the one at 1024 px has five (StyleGAN-XL, section 4)."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of a run with stages. What stays none is taken from the rest of the configuration."""

    resolution: int
    """Resolution of the stage's images in pixels."""
    name: str | None = None
    """Name of the stage, which its folder bears; none is the resolution."""
    up_factor: int | None = None
    """This side over the side of the stage below: 2 or 4; none is 2. The first stage has none."""
    head_layers: int | None = None
    """Layers of the new head without ToRGB; none is 7, and 5 at 1024 px. The first stage has none."""
    kimg: float | None = None
    """Length of the stage in thousand images; schedule.plateau may end it earlier."""
    batch: int | None = None
    """Images of one update."""
    per_device: int | None = None
    """Images of one round on one process."""
    g_lr: float | None = None
    """Learning rate of the generator."""
    d_lr: float | None = None
    """Learning rate of the discriminator's heads."""
    cls_weight: float | None = None
    """Weight of classifier guidance; none takes objective.cls_weight above 32 px and 0 up to there."""
    train: Literal["generator", "text_encoder", "both"] | None = None
    """What learns beside the discriminator in a stage of a stylegan_t generator; none is the generator."""
    clip_weight: float | None = None
    """Weight of CLIP guidance."""
    freeze_below: int | None = None
    """Blocks of a stylegan_t generator below this side rest, with its mapping; none trains all blocks."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Any other key of the configuration for this stage alone, such as `log.track_images: 2000`."""


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings, such as a stage's overrides, as dotted keys and values."""
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        found += flat_settings(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return found


def stage_label(stage: StageConfig) -> str:
    """Name of a stage: its own, or its side."""
    return stage.name or str(stage.resolution)


def stage_folder(stage: StageConfig) -> str:
    """Name of a stage's folder inside its run."""
    return f"stage_{stage.name or format(stage.resolution, '03d')}"


def head_layers_of(stage: StageConfig) -> int:
    """Layers of a stage's head, the paper's where the stage does not say."""
    if stage.head_layers is not None:
        return stage.head_layers
    return LAST_HEAD_LAYERS if stage.resolution >= LAST_SIDE else HEAD_LAYERS


def check_stages(
    stages: Sequence[StageConfig], *, family: str, base: int, stem: str | None, only: str | None
) -> None:
    """Rules that need no other file; ValueError with the value, the rule and the way out.

    family: of the generator. base: generator.img_resolution, the side of `stem` where one is given. stem:
    model folder below the first stage; without it the first stage is a stem. only: the stage that `--stage`
    names.
    """
    labels = [stage_label(stage) for stage in stages]
    if only is not None and only not in labels:
        listed = ", ".join(labels) or "no stages"
        raise ValueError(f"--stage {only} is not listed: the configuration has {listed}")
    _check_labels(labels)
    if family == "stylegan_t":
        _check_phases(stages)
        return
    below: int | None = base if stem else None
    for stage in stages:
        _check_without(stage, ("train", "freeze_below"), "is of a stylegan3 generator, which grows by heads")
        if below is None:
            _check_without(stage, ("up_factor", "head_layers"), "is the stem, which grows from nothing")
        else:
            _check_grown_stage(stage, below)
        below = stage.resolution


def _check_labels(labels: Sequence[str]) -> None:
    for label in labels:
        if not re.fullmatch(r"[\w.-]{1,40}", label) or label.startswith("."):
            raise ValueError(
                f"a stage is called {label!r}: use up to 40 letters, digits, dots, dashes and underscores"
            )
        if labels.count(label) > 1:
            raise ValueError(f"two stages are called {label}: give them a name each")


def _check_phases(stages: Sequence[StageConfig]) -> None:
    below = 0
    for stage in stages:
        _check_without(stage, ("up_factor", "head_layers"), "is of a stylegan_t generator without heads")
        if stage.resolution < below:
            raise ValueError(
                f"stage {stage_label(stage)} of {stage.resolution} px follows {below} px: "
                "list the stages from small to large"
            )
        below = stage.resolution


def _check_without(stage: StageConfig, names: Sequence[str], what: str) -> None:
    """Settings that mean nothing in this stage must not be there."""
    for name in names:
        if getattr(stage, name) is not None:
            raise ValueError(f"stage {stage_label(stage)} sets {name} but {what}: leave it out")


def _check_grown_stage(stage: StageConfig, below: int) -> None:
    factor = 2 if stage.up_factor is None else stage.up_factor
    if factor not in UP_FACTORS:
        raise ValueError(f"stage {stage.resolution} has up_factor={factor}: use 2 or 4")
    if stage.resolution != below * factor:
        raise ValueError(
            f"stage {stage.resolution} follows {below} px with up_factor={factor}, which makes "
            f"{below * factor} px: list the stages so that each is up_factor times the one before"
        )
