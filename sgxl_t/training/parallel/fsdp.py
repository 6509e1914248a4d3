"""A network whose weights, gradients and optimizer state torch itself shards over the processes (FSDP2).

Experimental: it is wrapped as a whole, so all weights are gathered during its forward and backward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from sgxl_t.training.checkpoint.checkpoint import flatten_optimizer, restore_optimizer
from sgxl_t.training.parallel.trained_network import MakeOptimizer, Mean, Network, TrainedNetwork


class FsdpNetwork(TrainedNetwork[Network]):
    """A network under `fully_shard`, which changes it in place: it is its own engine."""

    def __init__(self, network: Network, make_optimizer: MakeOptimizer, *, mesh: Any, mean: Mean) -> None:
        from torch.distributed.fsdp import fully_shard

        fully_shard(network, mesh=mesh)
        super().__init__(network, network, make_optimizer(network), mean=mean)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """See TrainedNetwork. Gathered weights still take gradients, which are dropped here."""
        try:
            yield
        finally:
            self.optimizer.zero_grad(set_to_none=True)

    def micro_batch(self, *, last: bool) -> AbstractContextManager[None]:
        """See TrainedNetwork."""
        self.raw.set_requires_gradient_sync(last)  # type: ignore[operator]
        return nullcontext()

    def _step(self) -> None:
        """Every process holds a part of the gradient, so they agree whether to step."""
        gradients = [_local(p.grad) for p in self.trainable if p.grad is not None]
        bad = ~torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all()
        bad = self._mean(bad.float()) > 0
        self._count(bad)
        if not bool(bad):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def parameters(self) -> list[Tensor]:
        """See `TrainedNetwork.parameters`; whole shapes on every process."""
        return [_whole(parameter.detach()) for parameter in self.raw.parameters()]

    def weights(self) -> dict[str, Tensor]:
        """See `TrainedNetwork.weights`; whole shapes on every process."""
        return {name: _whole(tensor) for name, tensor in self.raw.state_dict().items()}

    @torch.no_grad()
    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """See `TrainedNetwork.load_weights`; takes whole shapes."""
        own = self.raw.state_dict()
        self.raw.load_state_dict({name: _like(value, own.get(name)) for name, value in tensors.items()})

    def optimizer_state(self) -> dict[str, Tensor]:
        """See `TrainedNetwork.optimizer_state`; whole shapes on every process."""
        held = flatten_optimizer(self.optimizer, self.raw)
        return {name: _whole(tensor) for name, tensor in held.items()}

    def load_optimizer_state(self, tensors: Mapping[str, Tensor], *, partly: bool = False) -> None:
        """See `TrainedNetwork.load_optimizer_state`; takes whole shapes."""
        own = dict(self.raw.named_parameters())
        placed = {key: _like(value, own.get(key.rpartition(".")[0])) for key, value in tensors.items()}
        restore_optimizer(self.optimizer, self.raw, placed, partly=partly)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _like(value: Tensor, own: Tensor | None) -> Tensor:
    """value spread over the processes as `own` is, where their shapes agree (a scalar fits one element)."""
    scalar = isinstance(own, DTensor) and own.numel() == 1 and value.ndim == 0
    if not isinstance(own, DTensor) or not (scalar or value.shape == own.shape):
        return value
    value = value.to(own.device).reshape(own.shape)
    return distribute_tensor(value, own.device_mesh, own.placements)
