"""A run that begins where another one stands, or from a model: what it takes, and what stays fresh."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sgxl_t.conditioning.class_table import rows_by_name
from sgxl_t.datasets.base import ImageSource
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.networks.condition_input import ClassTable
from sgxl_t.ops.images import from_uint8
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.checkpoint.origin import class_names_of, same_features
from sgxl_t.training.loop.data import real_images
from sgxl_t.training.parallel.machines import check_same_checkpoint
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.train_state import TrainState

log = logging.getLogger("sgxl_t")

CALIBRATION_IMAGES = 64
GROUPS = 4
"""Parts of a network that are named one by one."""


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """How a run begins that has no checkpoint.

    folder: of the run. source, seed: of the images that calibrate feature scales. features: references of the
    discriminator's feature networks. start: as the user gave it, None to begin from random weights; model:
    the model folder that it names, None for a run. resumes_only: the run makes sense with a checkpoint alone.
    """

    folder: Path
    source: ImageSource
    seed: int
    features: tuple[str, ...]
    start: str | None = None
    model: Path | None = None
    resumes_only: bool = False

    def begin(self, state: TrainState, runtime: Runtime) -> None:
        """Takes what `start` has and the new networks take, and logs what stays fresh; counters stay at zero.

        A run gives all weights, averages and optimiser states of its newest checkpoint. A model folder gives
        the generator, to the weights and to their average alike; discriminator and optimisers are new. What
        has no counterpart keeps its first values: blocks of a higher resolution, tables of other classes.
        """
        if self.start is None:
            if self.resumes_only:
                raise ValueError(
                    f"freeze_stem=true keeps what a checkpoint brings and {self.folder} has none: name the "
                    "run folder in --run-dir, or leave it out"
                )
            self.calibrate(state)
            log.info("a new run starts in %s", self.folder)
            return
        check_same_checkpoint(runtime, Path(self.start), f"start={self.start}")
        if self.model is None:
            taken = _from_run(self, state, Path(self.start))
        else:
            taken = _from_model(self, state, self.model)
        log.info("starts from %s, %s; fresh: %s", taken.folder, ", ".join(taken.words), taken.fresh())

    def calibrate(self, state: TrainState) -> None:
        """Sets the scales of the feature networks by the first real images."""
        images = real_images(self.source, CALIBRATION_IMAGES, self.seed)
        state.features.calibrate(from_uint8(images.to(next(state.ema.network.parameters()).device)))


@dataclass
class Inherited:
    """What a start gave. missing: names of tensors, by network, that it had nothing for. others: what else is
    new, in words."""

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


def _from_model(new: NewRun, state: TrainState, folder: Path) -> Inherited:
    generator, _, info = load_model(folder)
    tensors, names = generator.state_dict(), state.condition.names
    others = ["discriminator", "optimiser states"]
    if names != info.class_names:
        for name in class_tensors(generator):
            tensors[name] = rows_by_name(tensors[name], info.class_names, names)
        others.append(f"{len(set(names) - set(info.class_names))} of {len(names)} classes")
    _copy(state.ema.network, tensors)
    own = state.g.weights()
    fitting = _fitting(own, tensors)
    state.g.load_weights({**own, **fitting})
    new.calibrate(state)
    missing = {"g": sorted(own.keys() - fitting.keys())}
    words = [f"a model folder: {len(fitting)} tensors of generator and average"]
    return Inherited(folder, words, missing, others)


def _from_run(new: NewRun, state: TrainState, run: Path) -> Inherited:
    found = load_newest(run / "checkpoints")
    if found is None:
        raise ValueError(f"start={run} holds no checkpoint: name the folder of a run, such as runs/text")
    folder, tensors, saved = found
    names = class_names_of(run)
    renamed = bool(names) and names != state.condition.names
    taken = Inherited(folder, [], {}, [])
    networks = state.networks
    if _same_features(new, state, run, tensors["projection"], saved):
        state.features.load_projection_state(tensors["projection"])
    else:  # heads know nothing of other features
        new.calibrate(state)
        del networks["d"]
        taken.others.append("discriminator, which sees through other feature networks")
    for name, network in networks.items():
        if f"network_{name}" not in tensors:  # the other run did not train it
            taken.others.append(f"the network {name}")
            continue
        own = network.weights()
        others = class_tensors(network.raw) if renamed else set()
        fitting = _fitting(own, _without(tensors[f"network_{name}"], others))
        network.load_weights({**own, **fitting})
        adam = tensors[f"optimizer_{name}"]
        network.load_optimizer_state({k: adam[k] for k in adam if _parameter(k) not in others}, partly=True)
        if not adam:
            taken.others.append(f"optimiser states of {name}")
        taken.words.append(f"{len(fitting)} tensors of {name}")
        taken.missing[name] = sorted(own.keys() - fitting.keys())
    ema = state.ema.network
    _copy(ema, _without(tensors["ema"], class_tensors(ema) if renamed else set()))
    if state.condition_ema and "ema_text" in tensors:
        _copy(state.condition_ema.network, tensors["ema_text"])
    state.objective.load_state_dict(tensors["objective"])
    return taken


def _same_features(
    new: NewRun, state: TrainState, run: Path, projection: Mapping[str, Tensor], saved: Mapping[str, Any]
) -> bool:
    """Whether the heads of that run see what the new ones see: the same features, mixed in the same way."""
    own = state.features.projection_state()
    if {name: value.shape for name, value in own.items()} != {n: v.shape for n, v in projection.items()}:
        return False
    theirs = saved.get("config", {}).get("discriminator", {}).get("features")
    return theirs is None or same_features(new.features, new.folder, theirs, run)


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
