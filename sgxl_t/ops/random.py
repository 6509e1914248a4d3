"""Random numbers: the one place that says how a seed, and what it is used for, become a generator.

Every draw is a function of a key and never of what was drawn before it, so that batch sizes, the number of
processes and restarts change nothing. The rules below differ only in how they mix their key. Each was there
when the first runs, metrics and pictures were made with it, so that none can change without changing these.
All generators are on the CPU, whose numbers are the same on every machine.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable

import torch
from torch import Tensor

PRIME = 1_000_003
"""Mixes the parts of a key, which are small numbers; seeds of 64 bits are far larger."""


def training_rng(seed: int, role: str, position: int) -> torch.Generator:
    """Generator of one role in training, such as a phase or "grid".

    position: the first image that it is for, counted over all processes, so that it does not matter which of
    them draws.
    """
    key = seed
    for part in (*role.encode(), 0, position):  # the 0 keeps roles that end in digits apart
        key = (key * PRIME + part + 1) % (2**63 - 25)
    return torch.Generator().manual_seed(key)


def rollback_seed(seed: int, rollbacks: int) -> int:
    """The seed of a run that went back to a checkpoint so many times: the same draws would diverge again."""
    return seed + PRIME * rollbacks


def epoch_rng(seed: int, epoch: int) -> torch.Generator:
    """Generator of the order in which the images of a data set come in one epoch."""
    return torch.Generator().manual_seed((seed * PRIME + epoch) % 2**63)


def sample_rng(seed: int, index: int, purpose: str = "z") -> torch.Generator:
    """Generator of one sample of a metric.

    Purpose "z" is seeded with seed + index, as `sgxl-t sample` seeds its images. Every other purpose has
    numbers of its own, so that a shift or a prompt does not depend on the latent it goes with.
    """
    number = seed + index
    if purpose != "z":
        number = int.from_bytes(hashlib.sha256(f"{purpose}/{number}".encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(number)


def latents(seeds: Iterable[int], z_dim: int) -> Tensor:
    """float32 [N, z_dim], N(0, 1), on the CPU; each row is a function of its own seed alone."""
    return torch.stack([torch.randn(z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def python_rng(*key: object) -> random.Random:
    """Python's generator of a key of texts and numbers, for choices among captions and shards."""
    return random.Random("/".join(map(str, key)))
