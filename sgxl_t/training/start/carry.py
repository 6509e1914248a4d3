"""A generator's weights for a run of another condition: classes for text, nothing for classes, and so on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.mapping_xl import MappingXL
from sgxl_t.networks.layers import FullyConnected

Tensors = dict[str, Tensor]


@torch.no_grad()
def carry(theirs: Generator, ours: Generator, seen: Conditioning) -> Tensors:
    """Tensors of `theirs` as `ours` takes them, whose condition is another: its first images are those of
    the average condition of `theirs`.

    seen: conditions that `theirs` was trained on, empty where it has none. What a layer adds for their mean
    joins its bias, what it does with z stays, and what reads the new condition starts at zero: so it works
    from the first update on and disturbs nothing. Names that `ours` lacks, and those of the condition
    itself, are left out.
    """
    tensors = dict(theirs.state_dict())
    part = theirs.mapping.condition_part(seen.c)
    mean = None if part is None else part.mean(dim=0)
    for name in _readers(theirs):
        old, new = theirs.get_submodule(name), _submodule(ours, name)
        if isinstance(old, FullyConnected) and isinstance(new, FullyConnected):
            tensors |= {f"{name}.{key}": value for key, value in _layer(old, new, theirs.z_dim, mean).items()}
    centre = theirs.mapping.center(seen.c)
    average = centre if centre.ndim == 1 else centre.mean(dim=0)
    own = dict(ours.named_buffers()).get("mapping.w_avg")
    if own is not None:
        tensors["mapping.w_avg"] = average.expand(own.shape).clone()
    elif "mapping.w_avg" in tensors:
        del tensors["mapping.w_avg"]
    return {name: value for name, value in tensors.items() if not name.startswith("mapping.embed")}


def _readers(generator: Generator) -> Sequence[str]:
    """Names of the layers that read z and the condition side by side."""
    if isinstance(generator.mapping, MappingXL):
        return ["mapping.fc0"]
    names = [name for name, module in generator.named_modules() if isinstance(module, FullyConnected)]
    return [name for name in names if name.startswith("synthesis.") and ".affine" in name]


def _layer(old: FullyConnected, new: FullyConnected, latents: int, mean: Tensor | None) -> Tensors:
    """Weight and bias of a layer whose first `latents` inputs stay and whose others are another condition;
    mean [D]: of the old one."""
    if len(old.weight) != len(new.weight):
        return {}
    weight = torch.zeros(new.weight.shape)
    weight[:, :latents] = old.weight[:, :latents] * (old.weight_gain / new.weight_gain)
    assert old.bias is not None
    bias = old.bias.clone()
    if mean is not None:
        bias += old.weight[:, latents:] @ mean * (old.weight_gain / old.bias_gain)
    return {"weight": weight, "bias": bias}


def _submodule(network: nn.Module, name: str) -> nn.Module | None:
    """A part of a network by name; None where there is none."""
    return dict(network.named_modules()).get(name)
