"""A run that begins where another one stands, or from a model: what it takes, and what stays fresh."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from sgxl_t.conditioning.class_table import rows_by_name
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.networks.condition_input import ClassTable
from sgxl_t.ops.images import from_uint8
from sgxl_t.training.build import real_pictures
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.checkpoint.origin import class_names_of, model_of, same_features

if TYPE_CHECKING:
    from sgxl_t.training.loop.trainer import Trainer

log = logging.getLogger("sgxl_t")

CALIBRATION_IMAGES = 64
GROUPS = 4
"""Parts of a network that are named one by one."""


def start_from(trainer: Trainer, start: str) -> None:
    """Takes what `start` has and the new networks take; counters start at zero. Logs what stays fresh.

    A run gives all weights, averages and optimiser states of its newest checkpoint. A model folder gives the
    generator, to the weights and to their average alike; discriminator and optimisers are new. What has no
    counterpart keeps its first values: blocks of a larger side, tables of other classes.
    """
    model = model_of(trainer.config.start)
    taken = _from_run(trainer, Path(start)) if model is None else _from_model(trainer, model.folder)
    log.info("starts from %s, %s; fresh: %s", taken.folder, ", ".join(taken.words), taken.fresh())


def calibrate(trainer: Trainer) -> None:
    """Sets the scales of the feature networks by the first real images."""
    images = real_pictures(trainer.source, CALIBRATION_IMAGES, trainer.config.seed)
    trainer.features.calibrate(from_uint8(images.to(trainer.runtime.device)))


@dataclass
class Taken:
    """What a start gave. missing: tensors by network that found nothing."""

    folder: Path
    words: list[str]
    missing: dict[str, list[str]]
    others: list[str]

    def fresh(self) -> str:
        """In words, such as: discriminator, 12 tensors of g (b64.*)."""
        parts = [
            f"{len(names)} tensors of {network} ({grouped(names)})"
            for network, names in self.missing.items()
            if names
        ]
        return ", ".join([*self.others, *parts]) or "nothing"


def grouped(names: Sequence[str]) -> str:
    """Tensors by the part of the network that they belong to: b64.*, mapping.*."""
    parts = [name.removeprefix("synthesis.").split(".")[0] + ".*" for name in names]
    different = list(dict.fromkeys(parts))
    more = len(different) - GROUPS
    return ", ".join(different[:GROUPS]) + (f" and {more} more" if more > 0 else "")


def _from_model(trainer: Trainer, folder: Path) -> Taken:
    generator, _, info = load_model(folder)
    tensors, names = generator.state_dict(), trainer.condition.names
    others = ["discriminator", "optimiser states"]
    if names != info.class_names:
        for name in class_tensors(generator):
            tensors[name] = rows_by_name(tensors[name], info.class_names, names)
        others.append(f"{len(set(names) - set(info.class_names))} of {len(names)} classes")
    _copy(trainer.ema.network, tensors)
    own = trainer.g.weights()
    fitting = _fitting(own, tensors)
    trainer.g.load_weights({**own, **fitting})
    calibrate(trainer)
    missing = {"g": sorted(own.keys() - fitting.keys())}
    words = [f"a model folder: {len(fitting)} tensors of generator and average"]
    return Taken(folder, words, missing, others)


def _from_run(trainer: Trainer, run: Path) -> Taken:
    found = load_newest(run / "checkpoints")
    if found is None:
        raise ValueError(f"start={run} holds no checkpoint: name the folder of a run, such as runs/text")
    folder, parts, state = found
    names = class_names_of(run)
    renamed = bool(names) and names != trainer.condition.names
    taken = Taken(folder, [], {}, [])
    roles = trainer.roles()
    if _same_sight(trainer, run, parts["projection"], state):
        trainer.features.load_projection_state(parts["projection"])
    else:  # heads know nothing of other features
        calibrate(trainer)
        del roles["d"]
        taken.others.append("discriminator, which sees through other feature networks")
    for name, role in roles.items():
        if f"network_{name}" not in parts:  # the other run did not train it
            taken.others.append(f"the network {name}")
            continue
        own = role.weights()
        others = class_tensors(role.raw) if renamed else set()
        fitting = _fitting(own, _without(parts[f"network_{name}"], others))
        role.load_weights({**own, **fitting})
        states = parts[f"optimizer_{name}"]
        role.load_optimizer_state(
            {key: states[key] for key in states if _parameter(key) not in others}, partly=True
        )
        if not states:
            taken.others.append(f"optimiser states of {name}")
        taken.words.append(f"{len(fitting)} tensors of {name}")
        taken.missing[name] = sorted(own.keys() - fitting.keys())
    average = trainer.ema.network
    _copy(average, _without(parts["ema"], class_tensors(average) if renamed else set()))
    if trainer.condition_ema and "ema_text" in parts:
        _copy(trainer.condition_ema.network, parts["ema_text"])
    trainer.objective.load_state_dict(parts["objective"])
    return taken


def _same_sight(
    trainer: Trainer, run: Path, projection: Mapping[str, Tensor], state: Mapping[str, Any]
) -> bool:
    """Whether the heads of that run see what the new ones see: the same features, mixed in the same way."""
    own = trainer.features.projection_state()
    if {name: value.shape for name, value in own.items()} != {n: v.shape for n, v in projection.items()}:
        return False
    theirs = state.get("config", {}).get("discriminator", {}).get("features")
    ours = trainer.config.discriminator.features
    return theirs is None or same_features(ours, trainer.folder, theirs, run)


def class_tensors(network: nn.Module) -> set[str]:
    """Names of the tensors with a row per class: class tables, and the generator's averages of w."""
    names = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, ClassTable)}
    average = "mapping.w_avg"
    shaped = dict(network.named_buffers()).get(average)
    return names | ({average} if names and shaped is not None and shaped.ndim == 2 else set())


def _parameter(key: str) -> str:
    """The parameter that a state of the optimiser belongs to."""
    return key.rpartition(".")[0]


def _without(tensors: Mapping[str, Tensor], names: set[str]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name not in names}


def _copy(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Loads the tensors that fit by name and shape."""
    network.load_state_dict(_fitting(network.state_dict(), tensors), strict=False)


def _fitting(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of `tensors` that have a name and shape of `own`."""
    return {name: value for name, value in tensors.items() if name in own and own[name].shape == value.shape}
