"""A run that begins where another one stands, or from a model: what it takes, and what stays fresh."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgxl_t.conditioning import ClassCondition, Condition, TextCondition
from sgxl_t.conditioning.class_table import rows_by_name
from sgxl_t.datasets.base import ImageSource
from sgxl_t.datasets.embedded.emoji_scenes import EmojiScenes
from sgxl_t.files.terminal import visible
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.networks.condition_input import ClassTable
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.generators.mapping_t import MappingT
from sgxl_t.ops.images import from_uint8
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.loop.data import real_images
from sgxl_t.training.parallel.machines import check_same_checkpoint
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.start.carry import carry, with_or_without_memory
from sgxl_t.training.start.fill_memory import fill_memory
from sgxl_t.training.start.heads import HEADS, read_heads, view_of
from sgxl_t.training.start.origin import Origin, find_origin, same_features
from sgxl_t.training.train_state import TrainState

log = logging.getLogger("sgxl_t")

CALIBRATION_IMAGES = 64
GROUPS = 4
"""Parts of a network, or classes, that are named one by one."""
EVERYDAY = "24x8"
"""Subset of emoji-scenes whose captions stand for those of a model's training."""


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """How a run begins that has no checkpoint.

    folder: of the run. source, seed: of the images that calibrate feature scales. features: references of the
    discriminator's feature networks. start: as the user gave it, None to begin from random weights. cond: of
    the run. resumes_only: the run makes sense with a checkpoint alone.
    """

    folder: Path
    source: ImageSource
    seed: int
    features: tuple[str, ...]
    cond: str
    start: str | None = None
    resumes_only: bool = False

    def begin(self, state: TrainState, runtime: Runtime) -> None:
        """Takes what `start` has and the new networks take, and logs what stays fresh; counters stay at zero.

        A run gives all weights, averages and optimiser states of its newest checkpoint. A model gives the
        generator, to the weights and to their average alike, and the heads beside it where they know data,
        condition and frozen networks; optimisers are new. What has
        no counterpart keeps its first values: blocks of a higher resolution, tables of other classes. The
        weights of a generator of another condition are carried over, see `carry`.
        """
        if self.start is None:
            if self.resumes_only:
                raise ValueError(
                    f"freeze_stem=true keeps what a checkpoint brings and {self.folder} has none: name the "
                    "run folder in --run-dir, or leave it out"
                )
            self.calibrate(state)
            fill_memory(state, self.source, self.seed)
            log.info("a new run starts in %s", self.folder)
            return
        check_same_checkpoint(runtime, Path(self.start), f"start={self.start}")
        origin = find_origin(self.start, self.cond)
        if origin.note:
            log.info("%s", origin.note)
        taken = (_from_run if origin.model is None else _from_model)(self, state, origin)
        log.info("starts from %s, %s; fresh: %s", taken.folder, ", ".join(taken.words), taken.fresh())
        fill_memory(state, self.source, self.seed)
        if taken.unused:
            log.info("of %s is left behind: %s", taken.folder, _counted(taken.unused))

    def calibrate(self, state: TrainState) -> None:
        """Sets the scales of the feature networks by the first real images."""
        images = real_images(self.source, CALIBRATION_IMAGES, self.seed)
        state.features.calibrate(from_uint8(images.to(next(state.ema.network.parameters()).device)))


@dataclass
class Inherited:
    """What a start gave. missing: names of tensors, by network, that it had nothing for. others: what else is
    new, in words. unused: names of the generator's tensors that do not fit."""

    folder: Path
    words: list[str]
    missing: dict[str, list[str]]
    others: list[str]
    unused: list[str]

    def fresh(self) -> str:
        """In words, such as: discriminator, 12 tensors of g (b64.*)."""
        parts = [_counted(names, network) for network, names in self.missing.items() if names]
        return ", ".join([*self.others, *parts]) or "nothing"


def _counted(names: Sequence[str], network: str = "g") -> str:
    return f"{len(names)} tensors of {network} ({grouped(names)})"


def grouped(names: Sequence[str]) -> str:
    """Tensors by the part of the network that they belong to: b64.*, mapping.*."""
    parts = [name.removeprefix("synthesis.").split(".")[0] + ".*" for name in names]
    different = list(dict.fromkeys(parts))
    more = len(different) - GROUPS
    return ", ".join(different[:GROUPS]) + (f" and {more} more" if more > 0 else "")


def _from_model(new: NewRun, state: TrainState, origin: Origin) -> Inherited:
    theirs, condition, _ = load_model(origin.folder)
    ours = state.ema.network
    tensors, names = dict(theirs.state_dict()), state.condition.names
    others: list[str] = []
    words: list[str] = []
    if not _same_condition(condition, state.condition):
        names_read = _names_read(state, origin)
        tensors = carry(theirs, ours, _seen(condition), names_read)
        if names_read is not None:
            words.append("classes begin as its text encoder reads their names")
        others.append(
            f"what reads the condition ({condition.spec.cond} there, {state.condition.spec.cond} here)"
        )
    elif names != origin.class_names:
        tensors |= _rows(tensors, class_tensors(theirs), origin.class_names, names)
        others.append(_new_classes(names, origin.class_names))
    if isinstance(state.condition, TextCondition):
        words.append(_reader(condition, state.condition))
    tensors = with_or_without_memory(tensors, ours)
    own = state.g.weights()
    fitting = _fitting(own, tensors)
    _copy(ours, tensors)
    state.g.load_weights({**own, **fitting})
    missing = {"g": sorted(own.keys() - fitting.keys())}
    words.insert(0, f"a model folder: {len(fitting)} tensors of generator and average")
    missing["d"], heads = _take_heads(new, state, origin.folder)
    words += [f"{heads} tensors of d"] if heads else []
    others = [*([] if heads else ["discriminator"]), "optimiser states", *others]
    return Inherited(origin.folder, words, missing, others, sorted(tensors.keys() - fitting.keys()))


def _take_heads(new: NewRun, state: TrainState, folder: Path) -> tuple[list[str], int]:
    """Loads the heads beside a model; names of tensors that it had nothing for, and how many it had."""
    new.calibrate(state)
    if not (folder / HEADS).is_file():
        return [], 0
    own, projection = state.d.weights(), state.features.projection_state()
    view = view_of(new.features, new.folder, state.condition, new.source.fingerprint())
    found = read_heads(folder / HEADS, own, projection, view)
    if found is None:
        return [], 0
    heads, after = found
    state.features.load_projection_state({**projection, **after})
    state.d.load_weights({**own, **heads})
    return sorted(own.keys() - heads.keys()), len(heads)


def _same_condition(theirs: Condition, ours: Condition) -> bool:
    """Whether vectors of both mean the same: classes by table, or captions read by equal text encoders."""
    if theirs.spec.cond != ours.spec.cond or theirs.spec.dim != ours.spec.dim:
        return False
    if not (isinstance(theirs, TextCondition) and isinstance(ours, TextCondition)):
        return True
    one, other = (condition.encoder.state_dict() for condition in (theirs, ours))
    texts = {name: tensor for name, tensor in one.items() if name in other}
    return bool(texts) and all(torch.equal(tensor, other[name].cpu()) for name, tensor in texts.items())


def _names_read(state: TrainState, origin: Origin) -> Tensor | None:
    """What the generator reads of its classes, [classes, D], where they began as their names are read by the
    text model that the run starts from; else None."""
    rows, mapping = getattr(state.condition, "table", None), state.ema.network.mapping
    if not origin.names_as_classes or rows is None or origin.model is None:
        return None
    same_width = rows.shape[1] == origin.model.condition.dim
    return mapping.text_scale * rows if isinstance(mapping, MappingT) and same_width else None


def _seen(condition: Condition) -> Conditioning:
    """What a model was trained on: its classes, or everyday captions, as it does not keep its own."""
    if isinstance(condition, ClassCondition):
        return condition.encode(torch.arange(len(condition.names)))
    if isinstance(condition, TextCondition):
        scenes = EmojiScenes(EVERYDAY)
        return condition.encode([scenes.prompt(attributes) for attributes in scenes.attribute_tuples()])
    return Conditioning()


def _reader(theirs: Condition, ours: TextCondition) -> str:
    """Which text encoder the generator reads captions with."""
    return f"captions are read with {'its' if _same_condition(theirs, ours) else 'another'} text encoder"


def _new_classes(ours: Sequence[str], theirs: Sequence[str]) -> str:
    new = [name for name in ours if name not in set(theirs)]
    shown = ", ".join(visible(name) for name in new[:GROUPS]) + (" ..." if len(new) > GROUPS else "")
    return f"{len(new)} of {len(ours)} classes" + (f" ({shown})" if new else "")


def _rows(
    tensors: Mapping[str, Tensor], tables: set[str], theirs: Sequence[str], ours: Sequence[str]
) -> dict[str, Tensor]:
    """Class tables with the rows of our classes; those of classes that are new get the mean."""
    stored = {name: tensors[name] for name in tables if name in tensors}
    return {
        name: rows_by_name(rows, theirs, ours) for name, rows in stored.items() if len(rows) == len(theirs)
    }


def _from_run(new: NewRun, state: TrainState, origin: Origin) -> Inherited:
    run = origin.folder
    found = load_newest(run / "checkpoints")
    if found is None:
        raise ValueError(f"start={run} holds no checkpoint: name the folder of a run, such as runs/text")
    folder, tensors, saved = found
    names, ours = origin.class_names, state.condition.names
    renamed = bool(names) and names != ours
    taken = Inherited(folder, [], {}, [_new_classes(ours, names)] if renamed else [], [])
    networks, ema = state.networks, state.ema.network
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
        own, stored = network.weights(), with_or_without_memory(tensors[f"network_{name}"], ema)
        tables = class_tensors(network.raw) if renamed else set()
        fitting = _fitting(own, {**_without(stored, tables), **_rows(stored, tables, names, ours)})
        network.load_weights({**own, **fitting})
        adam = tensors[f"optimizer_{name}"]
        network.load_optimizer_state({k: adam[k] for k in adam if _parameter(k) not in tables}, partly=True)
        if not adam:
            taken.others.append(f"optimiser states of {name}")
        taken.words.append(f"{len(fitting)} tensors of {name}")
        taken.missing[name] = sorted(own.keys() - fitting.keys())
    taken.unused = sorted(
        tensors["network_g"].keys() - _fitting(state.g.weights(), tensors["network_g"]).keys()
    )
    stored, tables = with_or_without_memory(tensors["ema"], ema), class_tensors(ema) if renamed else set()
    _copy(ema, {**_without(stored, tables), **_rows(stored, tables, names, ours)})
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
