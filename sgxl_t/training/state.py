"""The whole state of a trainer, to and from a checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from sgxl_t.ops.images import from_uint8
from sgxl_t.training.build import real_pictures
from sgxl_t.training.checkpoint import load_newest, save_checkpoint
from sgxl_t.training.config_file import config_to_dict
from sgxl_t.training.data import positions_of
from sgxl_t.training.start import start_from

if TYPE_CHECKING:
    from sgxl_t.training.trainer import Trainer

log = logging.getLogger("sgxl_t")

CALIBRATION_IMAGES = 64


def save_state(trainer: Trainer) -> None:
    """Writes everything that the next start needs to go on exactly; only the main process writes.

    Call it within `main_writes`.

    Sharded networks are gathered, so that any number of processes in any mode can go on from it.
    """
    positions = positions_of(trainer.loader, trainer.runtime)
    gathered = {name: (role.weights(), role.moments()) for name, role in trainer.roles().items()}
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
            "snapshots": trainer.recorder.best.state_dict(),
            "plateau": trainer.recorder.plateau.state_dict(),
            "skipped_steps": {name: role.skipped_steps for name, role in trainer.roles().items()},
            "loss_scale": {name: role.scaler_state() for name, role in trainer.roles().items()},
            "rollbacks": trainer.rollbacks,
            "config": config_to_dict(trainer.config),
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

    A new run starts from the run that config.start names, or else calibrates its feature scales.
    """
    found = load_newest(trainer.folder / "checkpoints")
    if found is None and trainer.config.start:
        start_from(trainer, Path(trainer.config.start))
        return
    if found is None and trainer.config.freeze_stem and not trainer.config.stem:
        raise ValueError(
            f"freeze_stem=true keeps what a checkpoint brings and {trainer.folder} has none: name the run "
            "folder in --run-dir, or leave it out"
        )
    if found is None:
        pictures = real_pictures(trainer.source, CALIBRATION_IMAGES, trainer.config.seed)
        trainer.features.calibrate(from_uint8(pictures.to(trainer.runtime.device)))
        log.info("a new run starts in %s", trainer.folder)
        return
    folder, parts, state = found
    try:
        trainer.ema.network.load_state_dict(parts["ema"])
        trainer.features.load_projection_state(parts["projection"])
        for name, role in trainer.roles().items():
            role.load_weights(parts[f"network_{name}"])
            role.load_moments(parts[f"optimizer_{name}"])
        if trainer.condition_ema:
            trainer.condition_ema.network.load_state_dict(parts["ema_text"])
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"checkpoint {folder} was made by other networks than the configuration builds ({reason}): "
            "use the run's own config.yaml, or a new --run-dir"
        ) from None
    trainer.objective.load_state_dict(parts["objective"])
    trainer.images_seen, trainer.iteration = state["images_seen"], state["iteration"]
    trainer.data_positions = state.get("data")
    if "snapshots" in state and trainer.runtime.is_main:
        trainer.recorder.best.restore(state["snapshots"], folder)
    if "plateau" in state:
        trainer.recorder.plateau.load_state_dict(state["plateau"])
    trainer.rollbacks = state.get("rollbacks", 0)
    for name, role in trainer.roles().items():
        role.restore_counts(state["skipped_steps"][name])
        role.load_scaler_state(state.get("loss_scale", {}).get(name, {}))
    log.info("resumed from %s at %.1f kimg", folder, trainer.images_seen / 1000)
