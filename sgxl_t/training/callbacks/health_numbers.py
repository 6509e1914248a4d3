"""Numbers that only the health of a run asks for: how the average follows, how varied the pictures are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from sgxl_t.conditioning.condition import Condition
from sgxl_t.conditioning.generate import generate
from sgxl_t.training.loop.ema import Ema

ENTRIES = 64
"""Entries of each parameter that stand for it, so that a look at a large network copies little."""
PICTURES, CONDITIONS = 36, 6
"""Pictures in all, of at most so many conditions, each from the same latents."""
SIDE = 16
"""Pictures are compared at this side in pixels at most: fine noise is no variety."""


class AverageWatch:
    """How much of the way from their first weights averages have gone, of the way their networks went.

    Ways are root mean squares over entries, so that weights which are sharded over processes may be looked at
    in part; None where this process holds none.
    """

    def __init__(self, averages: Sequence[tuple[Ema, nn.Module]]) -> None:
        """averages: each with the network that it follows; parameters that rest do not count."""
        pairs = [
            (mine, current)
            for ema, network in averages
            for mine, current in zip(ema.network.parameters(), network.parameters(), strict=True)
            if current.requires_grad
        ]
        self.averages = [mine for mine, _ in pairs]
        self.weights = [current for _, current in pairs]
        self.start()

    def start(self) -> None:
        """From here on counts."""
        self._first = _entries(self.averages), _entries(self.weights)

    def followed(self) -> float | None:
        """0 where the averages have not moved, towards 1 where they follow; None until a weight has moved."""
        averages, weights = self._first
        way = (_entries(self.weights) - weights).square().mean().sqrt()
        if not way > 0:
            return None
        return float((_entries(self.averages) - averages).square().mean().sqrt() / way)


def _entries(parameters: Sequence[Tensor]) -> Tensor:
    """Evenly spaced entries of all parameters, of sharded ones of a part, as float64 [N] on the CPU."""
    held = [p.to_local() if isinstance(p, DTensor) else p for p in (q.detach() for q in parameters)]
    parts = [p.reshape(-1)[:: max(1, -(-p.numel() // ENTRIES))].float() for p in held]
    return torch.cat(parts).double().cpu() if parts else torch.zeros(0, dtype=torch.float64)


class Variety:
    """How much pictures change with the latent and with the condition, on a few pictures of every pair.

    Distances are root mean squares over pixels of reduced pictures, over all pairs that are compared.
    """

    def __init__(self, conditions: Sequence[Any], real: Tensor, *, z_dim: int, seed: int) -> None:
        """conditions: as the run's condition encodes them. real: uint8 [N, 3, R, R], pictures of the data."""
        self.given = list(dict.fromkeys(conditions))[:CONDITIONS]
        self.z = torch.randn(
            PICTURES // len(self.given), z_dim, generator=torch.Generator().manual_seed(seed)
        )
        self.real = _spread(_reduced(real)[None])

    def __call__(self, generator: nn.Module, condition: Condition) -> dict[str, float]:
        """variety/samples: distance of two pictures of one condition, over that of two real pictures.

        variety/conditions: distance of two pictures of one latent under two conditions, over that of two of
        one condition. Left out where there is nothing to compare.
        """
        given = [one for one in self.given for _ in self.z]
        device = next(generator.parameters()).device
        pictures = generate(generator, condition, given, self.z.repeat(len(self.given), 1).to(device))
        crossed = _reduced(pictures).unflatten(0, (len(self.given), len(self.z)))
        samples = _spread(crossed)
        numbers = {}
        if self.real > 0:
            numbers["variety/samples"] = samples / self.real
        if len(self.given) > 1 and samples > 0:
            numbers["variety/conditions"] = _spread(crossed.transpose(0, 1)) / samples
        return {name: float(f"{value:.4g}") for name, value in numbers.items()}


def _reduced(pictures: Tensor) -> Tensor:
    """uint8 [N, 3, R, R] -> float32 [N, 3 * S * S] in [0, 1]."""
    side = min(SIDE, pictures.shape[-1])
    return F.adaptive_avg_pool2d(pictures.float() / 255, side).flatten(1)


def _spread(groups: Tensor) -> float:
    """groups [K, N, D] -> root mean square distance per entry of two members of one group; 0 for N = 1."""
    if groups.shape[1] < 2:
        return 0.0
    # Two independent draws differ by twice the variance.
    return float((2 * groups.var(dim=1).mean()).sqrt())
