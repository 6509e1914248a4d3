"""Batch norms of frozen CNNs as part of the convolution before them: the same numbers in two thirds of the
time, there and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

SAME = 1e-3
"""Largest difference that folding may make, as a share of a map's largest number; rounding makes 1e-5."""


@torch.no_grad()
def fold_batch_norms(model: nn.Module, maps: Callable[[], list[Tensor]]) -> int:
    """Folds every batch norm that reads the output of a convolution into that convolution.

    maps: runs the model, in eval mode, on any images of more than one value; by this it is found which
    follows which. Returns how many are gone. All stay where the maps would change, as in networks that also
    pass a convolution's output on to somewhere else.
    """
    before, pairs = _followers(model, maps)
    places = _places(model)
    kept = [(conv, conv.weight, conv.bias) for conv, _ in pairs]
    for conv, norm in pairs:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        conv.weight, conv.bias = _frozen(weight), _frozen(bias)
        parent, name = places[norm]
        setattr(parent, name, _rest(norm))
    after = maps() if pairs else before
    if all((x - y).abs().max() <= SAME * x.abs().max() for x, y in zip(before, after, strict=True)):
        return len(pairs)
    for conv, old_weight, old_bias in kept:
        conv.weight, conv.bias = old_weight, old_bias
    for _, norm in pairs:
        parent, name = places[norm]
        setattr(parent, name, norm)
    return 0


def _places(model: nn.Module) -> dict[nn.Module, tuple[nn.Module, str]]:
    """The parent of every module, and its name there."""
    return {child: (parent, name) for parent in model.modules() for name, child in parent.named_children()}


def _followers(
    model: nn.Module, maps: Callable[[], list[Tensor]]
) -> tuple[list[Tensor], list[tuple[nn.Conv2d, nn.BatchNorm2d]]]:
    """The maps; each convolution that runs once with the batch norm that reads its output."""
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    runs: dict[nn.Module, int] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def made(conv: Any, _: Any, output: Tensor) -> None:
        outputs[id(output)] = conv, output  # held, so that its id stays its own
        runs[conv] = runs.get(conv, 0) + 1

    def read(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        runs[norm] = runs.get(norm, 0) + 1
        if (found := outputs.get(id(inputs[0]))) is not None:
            pairs.append((found[0], norm))

    hooks = [part.register_forward_hook(made) for part in model.modules() if isinstance(part, nn.Conv2d)]
    norms = [
        part for part in model.modules() if isinstance(part, nn.BatchNorm2d) and part.track_running_stats
    ]
    hooks += [part.register_forward_pre_hook(read) for part in norms]
    result = maps()
    for hook in hooks:
        hook.remove()
    return result, [(conv, norm) for conv, norm in pairs if runs[conv] == runs[norm] == 1]


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)


def _rest(norm: nn.BatchNorm2d) -> nn.Module:
    """What else the layer does: timm's norms hold an activation."""
    act = getattr(norm, "act", None)
    return act if isinstance(act, nn.Module) else nn.Identity()
