"""The trained heads and the frozen random layers of a published discriminator.

Heads are worth nothing without the random mixing they learned on, so both are taken; the pretrained networks
below are timm's and are named by reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sgxl_t.files.pickles.storages import StoredTensor
from sgxl_t.files.pickles.tree import Module, tensors_of
from sgxl_t.files.pickles.values import RefusedError
from sgxl_t.model_io.published.generator import check_shapes, shapes_of
from sgxl_t.model_io.published.names import (
    feature_reference,
    head_name,
    heads_from_official,
    projection_name,
)
from sgxl_t.networks.configs import ConditionSpec, DiscriminatorConfig, ProjectedConfig
from sgxl_t.networks.discriminators.discriminator_xl import ProjectedHeads
from sgxl_t.networks.discriminators.projector import RandomProjector
from sgxl_t.networks.discriminators.vit_adapter import VitAdapter

LEVELS = 4


@dataclass(frozen=True)
class StoredDiscriminator:
    """What a run needs besides the pretrained networks."""

    config: DiscriminatorConfig
    heads: dict[str, Tensor]
    """State of ProjectedHeads."""
    projection: dict[str, Tensor]
    """State as `ProjectedFeatures.projection_state` gives it."""


def read_discriminator(module: Module, condition: ConditionSpec, *, limit: int) -> StoredDiscriminator:
    """Heads, mixing layers and adapters of a file's D. RefusedError where they do not fit together.

    condition: of the generator beside it. limit: bytes of the file.
    """
    if module.kind != "ProjectedDiscriminator":
        raise RefusedError(
            f"holds a {module.kind[:60]!r} as {module.where}, which is not a projected discriminator"
        )
    names = list(module.child("discriminators").children())
    try:
        references = tuple(feature_reference(name) for name in names)
    except ValueError as error:
        raise RefusedError(f"names a {error}") from None
    stored = _wanted_tensors(module, names, limit)
    heads = {head_name(name, names): tensor for name, tensor in stored.items()}
    mixing = {projection_name(name, names): tensor for name, tensor in stored.items()}
    ours = {name: tensor for name, tensor in heads.items() if name}
    frozen = {name: tensor for name, tensor in mixing.items() if name}
    config = DiscriminatorConfig(features=references, projected=_sizes(ours, frozen))
    try:
        channels = _check_mixing(frozen, config.projected, len(names), module.where)
        _check_heads(ours, config, condition, channels, module.where)
    except (ArithmeticError, RuntimeError, ValueError):
        raise RefusedError(f"stores sizes in {module.where} that cannot be built") from None
    state = {name: _as_ours(tensor.read()) for name, tensor in ours.items()}
    projection = {name: tensor.read().float() for name, tensor in frozen.items()}
    projection |= {f"{index}.scale": torch.ones(LEVELS) for index in range(len(names))}
    return StoredDiscriminator(config, heads_from_official(state, condition), projection)


def _wanted_tensors(module: Module, names: list[str], limit: int) -> dict[str, StoredTensor]:
    """Everything but the pretrained networks, by official name."""
    found = {
        f"discriminators.{name}": tensor
        for name, tensor in tensors_of(module.child("discriminators"), limit=limit).items()
    }
    for name in names:
        network = module.child("feature_networks").child(name)
        parts = {"scratch": network.child("scratch")} if "scratch" in network.children() else {}
        pretrained = network.child("pretrained")
        if "model" in pretrained.children():  # a transformer; adapters are the last children of its layers
            for level in range(1, LEVELS + 1):
                inside = pretrained.child(f"layer{level}")
                parts |= {
                    f"pretrained.layer{level}.{number}": inside.child(number)
                    for number in ("3", "4")
                    if number in inside.children()
                }
        for prefix, part in parts.items():
            for inner, tensor in tensors_of(part, limit=limit).items():
                found[f"feature_networks.{name}.{prefix}.{inner}"] = tensor
    return found


def _sizes(heads: dict[str, StoredTensor], frozen: dict[str, StoredTensor]) -> ProjectedConfig:
    """Settings that the shapes show; the rest are the release's."""
    first, second = (frozen.get(f"0.scratch.layer{level}_ccm.weight") for level in (0, 1))
    if first is None or second is None or len(first.shape) != 4 or len(second.shape) != 4:
        raise RefusedError("holds a discriminator without mixing layers")
    crossed = frozen.get("0.scratch.layer0_csm.out_conv.weight")
    projected = heads.get("networks.0.mini_discs.0.cls.weight_orig")
    return ProjectedConfig(
        proj_type=1 if crossed is None else 2,
        cout=first.shape[0],
        expand=second.shape[0] == 2 * first.shape[0],
        csm_kernel=1 if crossed is None else crossed.shape[-1],
        cmap_dim=64 if projected is None else projected.shape[0],
    )


def _check_mixing(
    frozen: dict[str, StoredTensor], config: ProjectedConfig, count: int, where: str
) -> list[tuple[int, ...]]:
    """Holds mixing layers and adapters against ours; returns per network the channels that heads see."""
    channels = []
    for index in range(count):
        prefix = f"{index}."
        own = {
            name.removeprefix(prefix): tensor.shape
            for name, tensor in frozen.items()
            if name.startswith(prefix)
        }
        seen = [own.get(f"scratch.layer{level}_ccm.weight", ()) for level in range(LEVELS)]
        if any(len(shape) != 4 for shape in seen):
            raise RefusedError("holds a discriminator without mixing layers")
        with torch.device("meta"):
            mixing = RandomProjector([shape[1] for shape in seen], config)
            wanted = {f"scratch.{name}": shape for name, shape in shapes_of(mixing.state_dict()).items()}
            if any(name.startswith("adapter.") for name in own):
                width = own.get("adapter.layer1.0.weight", (0, 1))[1]
                adapter = VitAdapter(width, [shape[1] for shape in seen])
                wanted |= {
                    f"adapter.{name}": shape for name, shape in shapes_of(adapter.state_dict()).items()
                }
        check_shapes(wanted, own, f"{where}.feature_networks.{index}")
        channels.append(mixing.channels)
    return channels


def _check_heads(
    heads: dict[str, StoredTensor],
    config: DiscriminatorConfig,
    condition: ConditionSpec,
    channels: list[tuple[int, ...]],
    where: str,
) -> None:
    first = 128 if config.projected.proj_type == 2 else 64
    resolutions = [tuple(first >> level for level in range(LEVELS))] * len(channels)
    with torch.device("meta"):
        wanted = shapes_of(ProjectedHeads(config, condition, channels, resolutions).state_dict())
    shapes = shapes_of(heads)
    for name, shape in shapes.items():
        if name.endswith(".embed.weight") and shape and shape[0] >= condition.num_classes:
            shapes[name] = (condition.num_classes, *shape[1:])
    check_shapes(wanted, shapes, f"{where}.discriminators")


def _as_ours(tensor: Tensor) -> Tensor:
    """Counters stay whole numbers."""
    return tensor.float() if tensor.is_floating_point() else tensor
