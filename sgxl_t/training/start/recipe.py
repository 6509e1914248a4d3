"""Settings for fine-tuning a small generator on own pictures, where a start is given and no configuration."""

from __future__ import annotations

from typing import Any

FEW = 5000
"""Images up to which a run is a short one."""


def fine_tuning(count: int | None) -> dict[str, Any]:
    """Settings by dotted key for a run on `count` images; None where that is not known.

    The same keys whatever the count, so that a run that is resumed finds its own. Nothing is frozen. Tried on
    200 drawings, see docs/experiments/fine-tuning.md.
    """
    few = count is not None and count <= FEW
    return {
        "optimizer.g_lr": 0.015,
        "optimizer.d_lr": 0.002,
        "optimizer.final_lr_share": 0.2,
        "batch.images": 32,
        # Fresh heads would spoil what the start has learnt before they know anything.
        "objective.d_alone_kimg": 0.6,
        # Averages that do not ramp up hold on to the start for some half lives.
        "ema.half_life_kimg": 0.25,
        "schedule.kimg": 8.0 if few else 40.0,
        "schedule.snapshot_kimg": 2.0,
        "schedule.checkpoint_kimg": 4.0,
    }
