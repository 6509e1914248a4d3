"""Settings for fine-tuning a small generator on own pictures, where a start is given and no configuration."""

from __future__ import annotations

from typing import Any

MANY = 5000
"""Images from which a run is no fine-tuning of a few any more, and may move on for longer."""


def fine_tuning(count: int | None) -> dict[str, Any]:
    """Settings by dotted key for a run on `count` images; None where that is not known."""
    few = count is not None and count <= MANY
    return {
        "optimizer.g_lr": 0.005,
        "optimizer.d_lr": 0.002,
        "optimizer.final_lr_share": 0.2,
        "batch.images": 32,
        "ema.half_life_kimg": 1.0,
        "schedule.kimg": 30.0 if few else 100.0,
        "schedule.snapshot_kimg": 2.0,
        "schedule.checkpoint_kimg": 5.0,
    }
