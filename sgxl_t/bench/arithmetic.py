"""How much a workload computes and how much it has to move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


class Work(NamedTuple):
    """Of one forward call: GFLOP, and MB that have to be read and written at two bytes a number.

    A network's: its weights, and the maps that enter and leave its layers; what a layer keeps for itself
    need not be stored.
    """

    gflop: float
    megabytes: float


def count(forward: Callable[[], Tensor], network: nn.Module | None) -> Work:
    """Counts the convolutions of one run of `forward`, and what its layers read and write.

    forward: gives a tensor of any shape, which is dropped. network: whose layers; None for an operator.
    """
    moved = 0

    def add(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal moved
        own = [*module.parameters(recurse=False), *inputs, output]
        moved += sum(x.numel() for x in own if isinstance(x, Tensor))

    layers = [] if network is None else [m for m in network.modules() if list(m.parameters(recurse=False))]
    handles = [layer.register_forward_hook(add) for layer in layers]
    try:
        with FlopCounterMode(display=False) as counter:
            forward()
    finally:
        for handle in handles:
            handle.remove()
    counts = counter.get_flop_counts()["Global"]
    flop = sum(number for call, number in counts.items() if "convolution" in str(call))
    return Work(flop / 1e9, 2 * moved / 1e6)
