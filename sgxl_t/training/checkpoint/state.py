"""The whole state of a trainer, to and from a checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import Value
from sgxl_t.training.checkpoint.checkpoint import load_newest, save_checkpoint
from sgxl_t.training.checkpoint.start import calibrate, start_from
from sgxl_t.training.loop.data import positions_of
from sgxl_t.training.parallel.machines import check_same_checkpoint

if TYPE_CHECKING:
    from sgxl_t.training.loop.trainer import Trainer

log = logging.getLogger("sgxl_t")


def save_state(trainer: Trainer) -> None:
    """Writes everything that the next start needs to go on exactly; only the main process writes.

    Call it within `on_main_process`.

    Sharded networks are gathered, so that any number of processes in any mode can go on from it.
    """
    positions = positions_of(trainer.loader, trainer.runtime)
    gathered = {name: (role.weights(), role.optimizer_state()) for name, role in trainer.roles().items()}
    if trainer.runtime.is_main:
        parts: dict[str, dict[str, Tensor]] = {
            "ema": trainer.ema.network.state_dict(),
            "projection": trainer.features.projection_state(),
            "objective": trainer.objective.state_dict(),
        }
        for name, (weights, moments) in gathered.items():
            parts[f"network_{name}"], parts[f"optimizer_{name}"] = weights, moments
        if trainer.condition_ema:
            parts["ema_text"] = trainer.condition_ema.network.state_dict()
        state = {
            "images_seen": trainer.images_seen,
            "iteration": trainer.iteration,
            "data": positions,
            "data_fingerprint": trainer.source.fingerprint(),
            "snapshots": trainer.recorder.best.state_dict(),
            "plateau": trainer.recorder.plateau.state_dict(),
            "skipped_steps": {name: role.skipped_steps for name, role in trainer.roles().items()},
            "loss_scale": {name: role.scaler_state() for name, role in trainer.roles().items()},
            "rollbacks": trainer.rollbacks,
            "config": trainer.config.to_dict(),
        }
        save_checkpoint(
            trainer.folder / "checkpoints",
            trainer.images_seen / 1000,
            parts,
            state,
            models=trainer.recorder.best.models(),
            keep=trainer.config.schedule.keep_checkpoints,
        )


def restore_state(trainer: Trainer) -> None:
    """Loads the newest whole checkpoint on every process.

    A new run starts from what config.start names, or else calibrates its feature scales.
    """
    found = load_newest(trainer.folder / "checkpoints")
    if found is None and trainer.config.start:
        check_same_checkpoint(trainer.runtime, Path(trainer.config.start), f"start={trainer.config.start}")
        start_from(trainer, trainer.config.start)
        return
    if found is None and trainer.config.freeze_stem and not trainer.config.stem:
        raise ValueError(
            f"freeze_stem=true keeps what a checkpoint brings and {trainer.folder} has none: name the run "
            "folder in --run-dir, or leave it out"
        )
    if found is None:
        calibrate(trainer)
        log.info("a new run starts in %s", trainer.folder)
        return
    folder, parts, state = found
    try:
        trainer.ema.network.load_state_dict(parts["ema"])
        trainer.features.load_projection_state(parts["projection"])
        for name, role in trainer.roles().items():
            role.load_weights(parts[f"network_{name}"])
            role.load_optimizer_state(parts[f"optimizer_{name}"])
        if trainer.condition_ema:
            trainer.condition_ema.network.load_state_dict(parts["ema_text"])
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"checkpoint {folder} was made by other networks than the configuration builds ({reason}): "
            "use the run's own config.yaml, or a new --run-dir"
        ) from None
    try:
        _restore_standing(trainer, folder, parts, state)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"checkpoint {folder} does not say where the run stood ({visible(error)}): remove it to go on "
            "from the one before, or use a new --run-dir"
        ) from error
    log.info("resumed from %s at %.1f kimg", folder, trainer.images_seen / 1000)
    before, now = state.get("data_fingerprint"), trainer.source.fingerprint()
    if before not in (None, now):  # older checkpoints do not say
        log.warning(
            "the data set is not the one of the checkpoint (fingerprint %s then, %s now): training goes on "
            "with what is there",
            visible(before),
            now,
        )


def _restore_standing(
    trainer: Trainer, folder: Path, parts: dict[str, dict[str, Tensor]], state: dict[str, Any]
) -> None:
    """What a checkpoint holds beside the networks: how far the run was, and what it had measured."""
    images, iteration = Value(state, str(folder))["images_seen"], Value(state, str(folder))["iteration"]
    trainer.objective.load_state_dict(parts["objective"])
    trainer.images_seen, trainer.iteration = images.integer(0, 2**53), iteration.integer(0, 2**53)
    trainer.data_positions = state.get("data")
    if "snapshots" in state and trainer.runtime.is_main:
        trainer.recorder.best.restore(state["snapshots"], folder)
    if "plateau" in state:
        trainer.recorder.plateau.load_state_dict(state["plateau"])
    trainer.rollbacks = state.get("rollbacks", 0)
    for name, role in trainer.roles().items():
        role.restore_counts(state["skipped_steps"][name])
        role.load_scaler_state(state.get("loss_scale", {}).get(name, {}))
