"""Random numbers and shares of work by sample index, so that batches and processes do not change a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

from sgxl_t.metrics.features.base import full_precision
from sgxl_t.metrics.processes import NotFiniteError, Processes
from sgxl_t.networks.conditioning import Conditioning, as_conditioning
from sgxl_t.ops.random import sample_rng

ConditionOf = Callable[[Sequence[int]], Conditioning | Tensor | None]
"""Sample indices to what the generator takes as the conditions of these samples."""


def sample_latents(seed: int, indices: Sequence[int], z_dim: int, purpose: str = "z") -> Tensor:
    """float32 [N, z_dim], N(0, 1), on the CPU; a row is a function of seed + index alone."""
    return torch.stack([torch.randn(z_dim, generator=sample_rng(seed, index, purpose)) for index in indices])


def device_of(module: nn.Module) -> torch.device:
    """Where the module's tensors are; the CPU for a module without any."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """No gradients, no autocast, no TensorFloat-32: a difference of images must not measure rounding."""
    with torch.no_grad(), full_precision(torch.empty(0, device=device)):
        yield


def condition_of(
    conditions: ConditionOf | None, indices: Sequence[int], device: torch.device
) -> Conditioning:
    """The conditions of these samples on the device; empty where there are none."""
    return as_conditioning(None if conditions is None else conditions(indices)).to(device)


def per_sample(
    compute: Callable[[list[int]], Any], *, count: int, width: int = 1, batch_size: int, name: str
) -> Tensor:
    """Values [count, width], float64, of samples 0 to count - 1, complete on every process.

    compute: indices of one batch to [n, width] or [n]. Each process of the default group computes its share;
    one sum over the processes follows. What `compute` raises on one process is raised on all of them, and
    NotFiniteError for values that are not finite.
    """
    if count < 1 or batch_size < 1:
        raise ValueError(f"{name} of {count} samples in batches of {batch_size}: use at least 1 of both")
    processes = _processes()

    def work() -> Tensor:
        values = torch.zeros(count, width, dtype=torch.float64)
        mine = processes.share(count)
        with tqdm(total=len(mine), desc=name, unit="img", delay=2, leave=False) as bar:
            for start in range(mine.start, mine.stop, batch_size):
                part = list(range(start, min(start + batch_size, mine.stop)))
                values[part] = torch.as_tensor(compute(part)).detach().cpu().double().view(len(part), width)
                bar.update(len(part))
        return values

    values = processes.agree(work)
    if processes.world > 1:
        dist.all_reduce(values)
    bad = int((~values.isfinite()).any(dim=1).sum())
    if bad:
        raise NotFiniteError(f"{name}: {bad} of {count} samples gave no finite number: check the generator")
    return values


def _processes() -> Processes:
    """The members of torch's default process group; one alone where there is none."""
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    return Processes()
