"""Devices, ranks and precision: the only file that knows Accelerate."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


def stream(seed: int, role: str, rank: int, images_seen: int) -> torch.Generator:
    """Random stream of one role in one update on one rank; equal after a restart (a CPU generator)."""
    key = seed
    for part in (*role.encode(), rank, images_seen):
        key = (key * 1_000_003 + part + 1) % (2**63 - 25)
    return torch.Generator().manual_seed(key)


@dataclass
class Role:
    """One trained network: the engine that synchronises gradients, the plain module, its optimiser."""

    engine: nn.Module
    raw: nn.Module
    optimizer: torch.optim.Optimizer
    trainable: list[nn.Parameter]
    skipped_steps: int = 0

    @contextmanager
    def training_only(self, *others: Role) -> Iterator[None]:
        """Only this network's parameters take gradients inside the block."""
        for other in others:
            for parameter in other.trainable:
                parameter.requires_grad_(False)
        try:
            yield
        finally:
            for other in others:
                for parameter in other.trainable:
                    parameter.requires_grad_(True)


class Runtime:
    """Wraps Accelerate for two networks that are trained in turns (explicit rounds, no `accumulate`).

    Raises ValueError when the launcher and the process group disagree about the number of processes, or
    when a back end is asked for that the loop cannot run.
    """

    def __init__(self, *, deterministic: bool) -> None:
        from accelerate import Accelerator
        from accelerate.utils import DistributedType

        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        if self.accelerator.distributed_type == DistributedType.DEEPSPEED:
            raise ValueError(
                "the launch configuration asks for DeepSpeed, which this version cannot train with: "
                "use a DDP launch file such as configs/launch/gpu8_ddp.yaml"
            )
        self.device = self.accelerator.device
        self.rank = self.accelerator.process_index
        self.world_size = self.accelerator.num_processes
        self.is_main = self.accelerator.is_main_process
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        if launched != self.world_size:
            raise ValueError(
                f"{launched} processes were launched but {self.world_size} take part: "
                "launch through torchrun or accelerate with a file from configs/launch/"
            )
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)

    def prepare(self, network: nn.Module, optimizer: torch.optim.Optimizer, *, wrap: bool = True) -> Role:
        """Moves a network to the device and wraps it for gradient synchronisation.

        wrap=False: it takes part in another network's backward pass; `step` averages its gradients. A network
        that rests whole has none.
        """
        network.to(self.device)
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        engine: nn.Module = network
        if self.world_size > 1 and wrap and trainable:
            ids = [self.device.index] if self.device.type == "cuda" else None
            # Gradients of 1 x 1 kernels come with strides that mean the same and are copied at no cost.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            with warnings.catch_warnings():
                # Newer releases rename broadcast_buffers, older ones lack the new name.
                warnings.simplefilter("ignore", FutureWarning)
                engine = nn.parallel.DistributedDataParallel(network, device_ids=ids, broadcast_buffers=False)
        return Role(engine=engine, raw=network, optimizer=optimizer, trainable=trainable)

    def autocast(self) -> Any:
        """Mixed precision as the launch configuration asks for it."""
        return self.accelerator.autocast()

    def backward(self, loss: Tensor, rounds: int) -> None:
        """Adds this round's share of the gradient: the mean over the global batch."""
        (loss / rounds).backward()

    def sync_if(self, role: Role, last: bool) -> Any:
        """Gradients travel between processes in the last round only; wrap forward and backward."""
        distributed = isinstance(role.engine, nn.parallel.DistributedDataParallel)
        return role.engine.no_sync() if distributed and not last else nullcontext()

    def step(self, role: Role) -> bool:
        """One optimiser step; a step with a gradient that is not finite is skipped and counted."""
        gradients = [p.grad for p in role.trainable if p.grad is not None]
        if role.engine is role.raw:
            for gradient in gradients:
                gradient.copy_(self.mean(gradient))
        norms = torch.stack(torch._foreach_norm(gradients)) if gradients else torch.zeros(1)
        finite = bool(torch.isfinite(norms).all())
        if finite:
            role.optimizer.step()
        else:
            role.skipped_steps += 1
        role.optimizer.zero_grad(set_to_none=True)
        return finite

    def mean(self, value: Tensor) -> Tensor:
        """Mean over all processes, on every process."""
        if self.world_size == 1:
            return value
        value = value.clone()
        torch.distributed.all_reduce(value)
        return value / self.world_size

    @torch.no_grad()
    def average_buffers(self, network: nn.Module) -> None:
        """Makes the running averages of a network (w_avg, x_avg) equal on all processes."""
        if self.world_size > 1:
            for buffer in network.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.mean(buffer))

    def any(self, flag: bool) -> bool:
        """True everywhere when true on one process."""
        if self.world_size == 1:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        torch.distributed.all_reduce(value)
        return bool(value > 0)

    def gather(self, value: Tensor) -> Tensor:
        """Rows of all processes, rank after rank; equal shapes on each."""
        return self.accelerator.gather(value) if self.world_size > 1 else value

    def wait(self) -> None:
        """All processes meet here."""
        if self.world_size > 1:
            self.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """Leaves the process group."""
        if self.world_size > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
