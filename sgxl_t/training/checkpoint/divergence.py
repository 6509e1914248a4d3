"""What happens when updates keep giving numbers that are not finite: back to the newest checkpoint, once."""

from __future__ import annotations

import logging

from sgxl_t.training.callbacks.callback import Callbacks
from sgxl_t.training.checkpoint.checkpoint import find_newest
from sgxl_t.training.checkpoint.run_checkpoints import RunCheckpoints
from sgxl_t.training.parallel.machines import share_checkpoint
from sgxl_t.training.train_state import TrainState

log = logging.getLogger("sgxl_t")


class DivergedError(RuntimeError):
    """Training cannot go on: the numbers stay not finite."""


def roll_back(state: TrainState, checkpoints: RunCheckpoints, callbacks: Callbacks) -> None:
    """Restores the newest checkpoint; data and noise differ from there, or it would diverge the same way.

    Raises DivergedError without a checkpoint, and where none was written since the last time.
    """
    folder = checkpoints.folder
    reason = f"{state.skipped_in_a_row} steps in a row had a loss or gradient that is not finite"
    way_out = "lower optimizer.g_lr and optimizer.d_lr, or launch with mixed_precision: bf16 or no"
    if checkpoints.rolled_back:
        raise DivergedError(f"{reason}, again after going back to the newest checkpoint: {way_out}")
    share_checkpoint(checkpoints.runtime, folder, keep=checkpoints.keep)
    if find_newest(folder / "checkpoints") is None:
        raise DivergedError(f"{reason} and {folder} has no checkpoint to go back to: {way_out}")
    log.warning("%s: back to the newest checkpoint, with other data and noise from there", reason)
    rollbacks = state.rollbacks + 1
    callbacks.end()
    checkpoints.restore(state, callbacks)
    state.rollbacks, checkpoints.rolled_back = rollbacks, True
    callbacks.start(state)
