"""A generator's weights for a run of another condition: classes for text, nothing for classes, and so on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.mapping_t import MappingT
from sgxl_t.networks.generators.mapping_xl import MappingXL
from sgxl_t.networks.layers import FullyConnected, normalize_2nd_moment

Tensors = dict[str, Tensor]


OF_THE_CONDITION = ("mapping.embed", "mapping.memory")
"""Beginnings of the names of tensors that belong to the condition itself."""
DRAWS = 4096
"""Latents that decide how z stands in for a condition."""
SMALLEST = 1e-3
"""Variance of a latent, as a share of the largest, below which it stands in for nothing."""


@torch.no_grad()
def carry(theirs: Generator, ours: Generator, seen: Conditioning, classes: Tensor | None = None) -> Tensors:
    """Tensors of `theirs` as `ours` takes them, whose condition is another: its first images vary with z as
    those of `theirs` did with z and its conditions.

    seen: conditions that `theirs` was trained on, empty where it has none. Layers that read z and a condition
    side by side now read from z what the condition told them: z, brought to mean and covariance of the
    condition's vectors, takes their place. (The mean condition alone would not do: its vector lies far from
    all those of training.) What reads the new condition starts at zero, so it disturbs nothing, and learns
    from the first update on. All else stays as it is; what belongs to the condition itself is left out.

    classes: [K, D], vectors of `ours` where they are of the kind that `theirs` was trained on. What read the
    condition goes on to read them, by their difference from their mean, beside all that z stands in for.
    """
    tensors = dict(theirs.state_dict())
    part = _seen_part(theirs, seen)
    stand_in = None if part is None else standing_in(_latents(theirs), part)
    for name in _readers(theirs):
        old, new = theirs.get_submodule(name), _submodule(ours, name)
        if isinstance(old, FullyConnected) and isinstance(new, FullyConnected):
            layer = _layer(old, new, theirs.z_dim, stand_in)
            if classes is not None and layer:
                layer = _reading_on(old, new, layer, theirs.z_dim, classes.mean(dim=0))
            tensors |= {f"{name}.{key}": value for key, value in layer.items()}
    centre = theirs.mapping.center(seen.c)
    average = centre if centre.ndim == 1 else centre.mean(dim=0)
    own = dict(ours.named_buffers()).get("mapping.w_avg")
    if own is not None:
        tensors["mapping.w_avg"] = average.expand(own.shape).clone()
    elif "mapping.w_avg" in tensors:
        del tensors["mapping.w_avg"]
    return {name: value for name, value in tensors.items() if not name.startswith(OF_THE_CONDITION)}


def with_or_without_memory(tensors: Tensors, ours: Generator) -> Tensors:
    """Tensors of a generator of the same condition as `ours` takes them, where one of the two remembers
    pictures and the other does not.

    What reads deviations starts at zero, so the first images are those of the other; without a memory its
    part is left out, which is what truncation by psi = 0 does to it.
    """
    tower = tensors.get("mapping.memory.tower")
    there, here = 0 if tower is None else len(tower), ours.condition.picture_dim
    if there == here:
        return tensors
    changed = dict(tensors)
    for name in _readers(ours):
        key, new = f"{name}.weight", ours.get_submodule(name)
        if isinstance(new, FullyConnected) and key in tensors:
            old = tensors[key][:, : tensors[key].shape[1] - there]
            weight = F.pad(old, (0, here))
            if weight.shape == new.weight.shape:  # its gain follows the number of its inputs
                changed[key] = weight * math.sqrt(weight.shape[1] / tensors[key].shape[1])
    return changed


@torch.no_grad()
def add_within_classes(generator: Generator, residuals: Tensor) -> None:
    """Lets z of a class generator also stand in for what its vectors had beside the class.

    residuals: [N, dim], vectors of single images less the mean of their class, as the layers read them. z,
    brought to their covariance, is added to the class's vector wherever that is read.
    """
    matrix, offset = standing_in(_latents(generator), residuals - residuals.mean(dim=0))
    for name in _readers(generator):
        layer, latents = generator.get_submodule(name), generator.z_dim
        if isinstance(layer, FullyConnected):
            assert layer.bias is not None
            read = layer.weight[:, latents:]
            layer.bias.add_(read @ offset * (layer.weight_gain / layer.bias_gain))
            layer.weight[:, :latents] += read @ matrix


def standing_in(latents: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix [D, Z] and offset [D] that bring latents [N, Z] to mean and covariance of vectors [M, D].

    The directions of most variance on both sides are paired; where Z is smaller than D, the least are lost.
    """
    x, y = latents.double(), vectors.double()
    (spread_x, axes_x), (spread_y, axes_y) = (
        torch.linalg.eigh((one - one.mean(dim=0)).T @ (one - one.mean(dim=0)) / len(one)) for one in (x, y)
    )
    count = min(x.shape[1], y.shape[1])
    used = spread_x[-count:].clamp(min=SMALLEST * float(spread_x[-1]))
    scale = (spread_y[-count:].clamp(min=0) / used).sqrt()
    matrix = (axes_y[:, -count:] * scale) @ axes_x[:, -count:].T
    return matrix.float(), (y.mean(dim=0) - matrix @ x.mean(dim=0)).float()


def _seen_part(generator: Generator, seen: Conditioning) -> Tensor | None:
    """What layers read beside z under these conditions, [N, D]; of a generator that remembers pictures, drawn
    ones."""
    mapping = generator.mapping
    if not isinstance(mapping, MappingT) or seen.c is None:
        return mapping.condition_part(seen.c)
    z = torch.randn(len(seen.c), generator.z_dim, generator=torch.Generator().manual_seed(0))
    return mapping.drawn_part(z, seen.c)


def _latents(generator: Generator) -> Tensor:
    """What stands beside the condition in the layers that read it: [N, Z] for fixed z."""
    z = torch.randn(DRAWS, generator.z_dim, generator=torch.Generator().manual_seed(0))
    x = normalize_2nd_moment(z)
    return generator.mapping.mlp(x) if isinstance(generator.mapping, MappingT) else x


def _readers(generator: Generator) -> Sequence[str]:
    """Names of the layers that read z and the condition side by side."""
    if isinstance(generator.mapping, MappingXL):
        return ["mapping.fc0"]
    names = [name for name, module in generator.named_modules() if isinstance(module, FullyConnected)]
    return [name for name in names if name.startswith("synthesis.") and ".affine" in name]


def _layer(
    old: FullyConnected, new: FullyConnected, latents: int, stand_in: tuple[Tensor, Tensor] | None
) -> Tensors:
    """Weight and bias of a layer whose first `latents` inputs also stand in for its others, as `standing_in`
    says; empty where it has another number of outputs."""
    if len(old.weight) != len(new.weight):
        return {}
    assert old.bias is not None
    reads, bias = old.weight[:, :latents].clone(), old.bias.clone()
    if stand_in is not None:
        matrix, offset = stand_in
        read = old.weight[:, latents:]
        reads += read @ matrix
        bias += read @ offset * (old.weight_gain / old.bias_gain)
    weight = torch.zeros(new.weight.shape)
    weight[:, :latents] = reads * (old.weight_gain / new.weight_gain)
    return {"weight": weight, "bias": bias}


def _reading_on(
    old: FullyConnected, new: FullyConnected, layer: Tensors, latents: int, centre: Tensor
) -> Tensors:
    """The layer with what read the condition in the place of zeros, without its answer to `centre` [D]."""
    read = old.weight[:, latents : latents + len(centre)]
    weight = layer["weight"].clone()
    weight[:, latents:] = read * (old.weight_gain / new.weight_gain)
    return {"weight": weight, "bias": layer["bias"] - read @ centre * (old.weight_gain / old.bias_gain)}


def _submodule(network: nn.Module, name: str) -> nn.Module | None:
    """A part of a network by name; None where there is none."""
    return dict(network.named_modules()).get(name)
