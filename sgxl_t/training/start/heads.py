"""Heads of a discriminator beside a model, for runs that go on with it on the same data, under the same
condition and through the same frozen networks. Fresh heads see little for the first tens of thousands of
images; heads that know other pictures see less than fresh ones (docs/training.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sgxl_t.conditioning import ClassCondition, Condition, TextCondition
from sgxl_t.files.content import file_hashes, short_hash
from sgxl_t.files.tensors import write_tensors
from sgxl_t.networks.backbones.references import local_references
from sgxl_t.networks.weights.stored_tensors import opened, read_fitting

HEADS = "discriminator.safetensors"
_HEADS, _PROJECTIONS = "networks", "projections"
WAY_OUT = "restore the file, or remove it to begin with fresh heads"

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class View:
    """What heads look at. networks: for each frozen network what tells it from others. target: the same for
    the condition that they project on. data: fingerprint of the images."""

    networks: tuple[str, ...]
    target: str
    data: str


def view_of(features: Sequence[str], run: Path, condition: Condition, data: str) -> View:
    """features: references of the discriminator's frozen networks, in a run's folder; local ones count by
    their weights. data: fingerprint."""
    return View(tuple(_network(reference, run) for reference in features), target_of(condition), data)


def target_of(condition: Condition) -> str:
    """The text encoder by its weights, or the names of the classes."""
    if isinstance(condition, TextCondition):
        return f"text {condition.original.weights_hash()}"
    if isinstance(condition, ClassCondition):
        return f"class {short_hash(*condition.names)}"
    return "none"


def write_heads(
    folder: Path, heads: Mapping[str, Tensor], projection: Mapping[str, Tensor], view: View
) -> None:
    """Beside a model, in float16. heads, projection: as a checkpoint holds them; ValueError where they are
    not of the family `projected`."""
    if not all(name.startswith(f"{_HEADS}.") for name in heads):
        raise ValueError("heads of discriminator.family=dino are not kept beside a model: leave them out")
    after = {f"{_PROJECTIONS}.{name}": value for name, value in projection.items()}
    stored = {name: _half(value) for name, value in {**heads, **after}.items()}
    about = {"networks": json.dumps(view.networks), "target": view.target, "data": view.data}
    write_tensors(folder / HEADS, stored, {"format": "pt", **about})


def read_heads(
    path: Path, heads: Mapping[str, Tensor], projection: Mapping[str, Tensor], view: View
) -> tuple[Tensors, Tensors] | None:
    """Those of the tensors of a file that fit heads and projection of a run with this view, named as they are
    there; None where it has none for the run's data, condition and networks.

    A network's heads count where the model looked through the same network, wherever it stood in line, and
    what follows that network fits whole. ValueError of one sentence for a broken file.
    """
    with opened(path, WAY_OUT) as file:
        about = file.metadata() or {}
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    theirs = _networks(about, path)
    if (about.get("target"), about.get("data")) != (view.target, view.data):
        return None
    wanted: dict[str, tuple[str, Tensor]] = {}
    for number, network in enumerate(view.networks):
        if network not in theirs:
            continue
        place = theirs.index(network)
        after = _renamed(projection, _PROJECTIONS, number, place, "")
        if any(shapes.get(stored) != tuple(tensor.shape) for stored, (_, tensor) in after.items()):
            continue
        own = _renamed(heads, _HEADS, number, place, f"{_HEADS}.")
        wanted |= after
        wanted |= {name: one for name, one in own.items() if shapes.get(name) == tuple(one[1].shape)}
    if not wanted:
        return None
    expected = {stored: tensor for stored, (_, tensor) in wanted.items()}
    found = read_fitting(path, expected, way_out=WAY_OUT, wanted=lambda name: name in expected)
    ours = [(wanted[stored][0], stored.startswith(f"{_HEADS}."), value) for stored, value in found.items()]
    return (
        {name: value for name, is_head, value in ours if is_head},
        {name: value for name, is_head, value in ours if not is_head},
    )


def _renamed(
    tensors: Mapping[str, Tensor], kind: str, number: int, place: int, prefix: str
) -> dict[str, tuple[str, Tensor]]:
    """Those of network `number`, by their names in the file, where it stands at `place`."""
    own, theirs = f"{prefix}{number}.", f"{kind}.{place}."
    return {
        theirs + name.removeprefix(own): (name, value)
        for name, value in tensors.items()
        if name.startswith(own)
    }


def _networks(about: Mapping[str, str], path: Path) -> list[str]:
    try:
        found = json.loads(about.get("networks", ""))
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise ValueError(f"{path} does not say which networks its heads look through: {WAY_OUT}")
    return [str(one) for one in found]


def _network(reference: str, run: Path) -> str:
    named = local_references(reference, run / "features")
    weights = Path(named.removeprefix("local:")) / "model.safetensors"
    if named.startswith("local:") and weights.is_file():
        return f"local {short_hash(*file_hashes([str(weights)], name=reference))}"
    return named


def _half(value: Tensor) -> Tensor:
    return value.to(torch.float16) if value.is_floating_point() else value
