"""Running statistics of networks that do not depend on how a batch is split over rounds and processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch._utils import _unflatten_dense_tensors

Part = TypeVar("Part")

NAMES = ("w_avg", "x_avg", "magnitude_ema", "running_mean", "running_var", "weight_u", "weight_v")
"""Buffers that move in forward passes: averages of w, batch norm, power iteration of spectral norm."""


class RunningStatistics:
    """Every round on every process starts from the same values; what they make of them is put together.

    Values are averaged. A table with a row per class is not, as a class is seen by few rounds only: its
    rounds' moves add up, which is what one pass over all samples does, to first order in the small steps.
    Rounds that give numbers that are not finite leave the values as they were.

    networks: whose buffers count. further: tensors that move in place as well.
    mean: of a tensor over all processes.
    """

    def __init__(
        self,
        networks: Iterable[nn.Module],
        further: Iterable[Tensor],
        *,
        mean: Callable[[Tensor], Tensor],
        world_size: int,
    ) -> None:
        named = [(name, buffer) for network in networks for name, buffer in network.named_buffers()]
        moving = [(name, buffer) for name, buffer in named if name.rpartition(".")[2] in NAMES]
        tables = [buffer for name, buffer in moving if _is_class_table(name, buffer)]
        self._tensors = [*tables, *(b for n, b in moving if not _is_class_table(n, b)), *further]
        self._table_size = sum(table.numel() for table in tables)
        self._mean = mean
        self._world_size = world_size

    @torch.no_grad()
    def over(self, rounds: list[Part]) -> Iterator[Part]:
        """The rounds of one phase, one after the other, for a loop that passes them through the networks."""
        if not self._tensors:
            yield from rounds
            return
        before, total = self._flat(), torch.zeros(())
        for number, part in enumerate(rounds):
            if number:
                self._fill(before)
            yield part
            total = total + self._flat() if number else self._flat()
        self._put_together(before, total, len(rounds))

    def _flat(self) -> Tensor:
        """A copy of all values as one vector: the tensors are many and small."""
        return torch.cat([tensor.flatten() for tensor in self._tensors])

    def _fill(self, values: Tensor) -> None:
        torch._foreach_copy_(self._tensors, _unflatten_dense_tensors(values, self._tensors))

    def _put_together(self, before: Tensor, total: Tensor, rounds: int) -> None:
        new = self._mean(total / rounds)
        finite = torch.isfinite(new).all()
        tables, old = new[: self._table_size], before[: self._table_size]
        new = torch.cat([old + (tables - old) * (rounds * self._world_size), new[self._table_size :]])
        self._fill(torch.where(finite, new, before))


def _is_class_table(name: str, buffer: Tensor) -> bool:
    return name.rpartition(".")[2] == "w_avg" and buffer.ndim == 2
