"""One trained network in one process: how its gradients travel, how it steps, how its state is stored.

The loop trains two or three networks in turns. The one being trained is called through `engine`, the others
through `raw`; a network whose gradients arise in another one's backward pass is its own engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from sgxl_t.training.checkpoint.checkpoint import flatten_optimizer, restore_optimizer

MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]
Mean = Callable[[Tensor], Tensor]
"""Mean of a tensor over all processes, on every process."""
Network = TypeVar("Network", bound=nn.Module)


class TrainedNetwork(Generic[Network]):
    """A network whose parameters are whole on every process: one process, or data parallel (DDP).

    engine: what `forward` is called through in this network's own phase. raw: the plain module inside.
    by_hand: nothing but `step` averages the gradients. followers: networks whose gradients arise in this
    one's phases and that step with it.
    """

    def __init__(
        self,
        raw: Network,
        engine: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        mean: Mean,
        by_hand: bool = False,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.raw, self.engine, self.optimizer = raw, engine, optimizer
        self.trainable = [parameter for parameter in raw.parameters() if parameter.requires_grad]
        self.scaler = scaler
        self.followers: list[TrainedNetwork[Any]] = []
        self._by_hand = by_hand
        self._mean = mean
        device = next((parameter.device for parameter in raw.parameters()), torch.device("cpu"))
        self._skipped = torch.zeros((), device=device)
        self._in_a_row = torch.zeros((), device=device)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """This network's parameters take no gradients inside the block, another one's phase."""
        for parameter in self.trainable:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in self.trainable:
                parameter.requires_grad_(True)

    def micro_batch(self, *, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of one micro-batch: only the last one synchronises gradients."""
        if isinstance(self.engine, nn.parallel.DistributedDataParallel) and not last:
            return self.engine.no_sync()
        return nullcontext()

    def backward(self, loss: Tensor, rounds: int) -> None:
        """Adds this micro-batch's share of the gradient of the mean over the global batch; loss: scalar."""
        share = loss / rounds
        (share if self.scaler is None else self.scaler.scale(share)).backward()

    def step(self) -> None:
        """One optimiser step, of the followers as well, where gradients are finite on all processes.

        Otherwise the step is left out and counted; nothing waits for the device.
        """
        self._step()
        for follower in self.followers:
            follower._step()
        if self.scaler is not None:
            self.scaler.update()

    def _step(self) -> None:
        gradients = [p.grad for p in self.trainable if p.grad is not None]
        if not gradients:
            return
        if self._by_hand:
            for gradient in gradients:
                gradient.copy_(self._mean(gradient))
        self._step_along(gradients)
        self.optimizer.zero_grad(set_to_none=True)

    def _step_along(self, gradients: list[Tensor]) -> None:
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        bad = ~torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all()
        self._count(bad)
        if self.scaler is not None:
            self.scaler.step(self.optimizer)
            return
        # Fused optimisers read this flag on the device, as torch's own loss scaling has them do.
        self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
        self.optimizer.step()

    def _count(self, bad: Tensor) -> None:
        self._skipped += bad
        self._in_a_row.add_(1).mul_(bad)

    @property
    def skipped_steps(self) -> int:
        """Steps left out so far because a gradient was not finite; reading it waits for the device."""
        return int(self._skipped)

    @property
    def skipped_in_a_row(self) -> int:
        """The newest of these without a whole step between them."""
        return int(self._in_a_row)

    def restore_counts(self, skipped_steps: int) -> None:
        """Continues the count of a checkpoint."""
        self._skipped.fill_(skipped_steps)
        self._in_a_row.zero_()

    def scale_rates(self, factor: float) -> None:
        """Learning rates become this share of their first values."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["first_lr"] * factor

    # State: every process calls these, since sharded networks gather what they hold -----------------------

    def whole(self) -> AbstractContextManager[None]:
        """Inside the block `raw` holds whole parameters, for reading."""
        return nullcontext()

    def parameters(self) -> list[Tensor]:
        """Parameters in their whole shapes, in the order of `raw.parameters()`; call inside `whole`."""
        return [parameter.detach() for parameter in self.raw.parameters()]

    def weights(self) -> dict[str, Tensor]:
        """All weights by name, in their whole shapes."""
        return self.raw.state_dict()

    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Loads what `weights` gave, on any number of processes; RuntimeError for other names or shapes."""
        self.raw.load_state_dict(tensors)

    def optimizer_state(self) -> dict[str, Tensor]:
        """The optimizer state by `<parameter name>.<entry>`, in whole shapes."""
        return flatten_optimizer(self.optimizer, self.raw)

    def load_optimizer_state(self, tensors: Mapping[str, Tensor], *, partly: bool = False) -> None:
        """Loads what `optimizer_state` gave; names and shapes that fit no parameter are a ValueError.

        partly: leave those out instead.
        """
        restore_optimizer(self.optimizer, self.raw, tensors, partly=partly)

    def scaler_state(self) -> dict[str, float]:
        """The loss scale of float16 training, for a checkpoint; empty without one."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def load_scaler_state(self, state: Mapping[str, float]) -> None:
        """Loads what `scaler_state` gave; nothing where the precision has changed."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(dict(state))
