"""A run that begins where another one stands: its networks and optimisers, as far as they fit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from sgxl_t.training.checkpoint import load_newest

if TYPE_CHECKING:
    from sgxl_t.training.trainer import Trainer

log = logging.getLogger("sgxl_t")


def start_from(trainer: Trainer, run: Path) -> None:
    """Takes all weights and optimiser states of the newest checkpoint of `run` that the new networks have.

    Parts that the other run lacks, such as blocks of a larger side, keep their first weights. The averages
    of generator and text tower go on as well; counters start at zero. ValueError without a whole checkpoint,
    and for one whose generator shares nothing with this one.
    """
    found = load_newest(run / "checkpoints")
    if found is None:
        raise ValueError(f"start={run} holds no checkpoint: name the folder of a run, such as runs/text")
    folder, parts, _ = found
    kept = {"ema": _copy(trainer.ema.network, parts["ema"])}
    for name, role in trainer.roles().items():
        if f"network_{name}" not in parts:  # the other run did not train it
            continue
        own = role.weights()
        fitting = _fitting(own, parts[f"network_{name}"])
        role.load_weights({**own, **fitting})
        role.load_moments(parts[f"optimizer_{name}"], partly=True)
        kept[name] = len(fitting)
    if trainer.condition_ema and "ema_text" in parts:
        _copy(trainer.condition_ema.network, parts["ema_text"])
    if not kept["g"]:
        raise ValueError(f"start={run} has another generator: use a configuration of the same family")
    trainer.features.load_projection_state(parts["projection"])
    trainer.objective.load_state_dict(parts["objective"])
    counts = ", ".join(f"{count} tensors of {name}" for name, count in kept.items())
    log.info("starts from %s with %s", folder, counts)


def _copy(network: nn.Module, tensors: dict[str, Tensor]) -> int:
    """Loads the tensors that fit by name and shape; returns how many."""
    fitting = _fitting(network.state_dict(), tensors)
    network.load_state_dict(fitting, strict=False)
    return len(fitting)


def _fitting(own: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of `tensors` that have a name and shape of `own`."""
    return {name: value for name, value in tensors.items() if name in own and own[name].shape == value.shape}
