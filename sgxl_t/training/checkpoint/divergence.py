"""What happens when updates keep giving numbers that are not finite: back to the newest checkpoint, once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sgxl_t.training.checkpoint.checkpoint import find_newest
from sgxl_t.training.checkpoint.state import restore_state
from sgxl_t.training.parallel.machines import share_checkpoint

if TYPE_CHECKING:
    from sgxl_t.training.loop.trainer import Trainer

log = logging.getLogger("sgxl_t")


class DivergedError(RuntimeError):
    """Training cannot go on: the numbers stay not finite."""


def skipped_in_a_row(trainer: Trainer) -> int:
    """Steps in a row that one of the networks has left out; equal on all processes."""
    return max(role.skipped_in_a_row for role in trainer.roles().values())


def has_diverged(trainer: Trainer) -> bool:
    """Whether more steps in a row were left out than the schedule allows."""
    return skipped_in_a_row(trainer) >= trainer.config.schedule.max_skipped_steps


def roll_back(trainer: Trainer) -> None:
    """Restores the newest checkpoint; from there data and noise differ, or all would come the same way.

    Raises DivergedError without a checkpoint, and when none was written since the last time.
    """
    skipped, folder = skipped_in_a_row(trainer), trainer.folder
    reason = f"{skipped} steps in a row had a loss or gradient that is not finite"
    way_out = "lower optimizer.g_lr and optimizer.d_lr, or launch with mixed_precision: bf16 or no"
    if trainer.rolled_back:
        raise DivergedError(f"{reason}, again after going back to the newest checkpoint: {way_out}")
    share_checkpoint(trainer.runtime, folder, keep=trainer.config.schedule.keep_checkpoints)
    if find_newest(folder / "checkpoints") is None:
        raise DivergedError(f"{reason} and {folder} has no checkpoint to go back to: {way_out}")
    log.warning("%s: back to the newest checkpoint, with other data and noise from there", reason)
    rollbacks = trainer.rollbacks + 1
    trainer.recorder.close()
    restore_state(trainer)
    trainer.rollbacks, trainer.rolled_back = rollbacks, True
    trainer.recorder.start()
