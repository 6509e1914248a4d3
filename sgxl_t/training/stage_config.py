"""Progressive growing in a configuration: the list of stages and its rules (StyleGAN-XL, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sgxl_t.networks.schedule_xl import UP_FACTORS

LAST_SIDE, LAST_HEAD_LAYERS, HEAD_LAYERS = 1024, 5, 7
"""Heads have seven layers beside ToRGB; the one at 1024 px has five (StyleGAN-XL, section 4)."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of a chain. What stays none is taken from the rest of the configuration."""

    resolution: int
    """Side of the stage's pictures in pixels."""
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
    overrides: dict[str, Any] = field(default_factory=dict)
    """Any other key of the configuration for this stage alone, such as `log.track_images: 2000`."""


def stage_name(resolution: int) -> str:
    """Folder of a stage inside its run."""
    return f"stage_{resolution:03d}"


def head_layers_of(stage: StageConfig) -> int:
    """Layers of a stage's head, the paper's where the stage does not say."""
    if stage.head_layers is not None:
        return stage.head_layers
    return LAST_HEAD_LAYERS if stage.resolution >= LAST_SIDE else HEAD_LAYERS


def check_stages(stages: Sequence[StageConfig], *, base: int, stem: str | None, only: int | None) -> None:
    """Rules that need no other file; ValueError with the value, the rule and the way out.

    base: generator.img_resolution, the side of `stem` where one is given. stem: model folder below the first
    stage; without it the first stage is a stem. only: the stage that `--stage` names.
    """
    if only is not None and only not in [stage.resolution for stage in stages]:
        listed = ", ".join(str(stage.resolution) for stage in stages) or "no stages"
        raise ValueError(f"--stage {only} is not listed: the configuration has {listed}")
    below: int | None = base if stem else None
    for stage in stages:
        if below is None:
            _check_stem_stage(stage)
        else:
            _check_grown_stage(stage, below)
        below = stage.resolution


def _check_stem_stage(stage: StageConfig) -> None:
    for name in ("up_factor", "head_layers"):
        if getattr(stage, name) is not None:
            raise ValueError(
                f"stage {stage.resolution} sets {name} but is the stem, which grows from nothing: "
                "leave it out, or name a model folder in stem"
            )


def _check_grown_stage(stage: StageConfig, below: int) -> None:
    factor = 2 if stage.up_factor is None else stage.up_factor
    if factor not in UP_FACTORS:
        raise ValueError(f"stage {stage.resolution} has up_factor={factor}: use 2 or 4")
    if stage.resolution != below * factor:
        raise ValueError(
            f"stage {stage.resolution} follows {below} px with up_factor={factor}, which makes "
            f"{below * factor} px: list the stages so that each is up_factor times the one before"
        )
