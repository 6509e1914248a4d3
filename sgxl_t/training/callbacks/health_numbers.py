"""Numbers that only the health of a run asks for: how the average follows, how samples look and vary."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from sgxl_t.conditioning.condition import Condition
from sgxl_t.conditioning.generate import generate
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.training.callbacks.callback import Callback, Line, Snapshot
from sgxl_t.training.callbacks.sample_grid import SampleGrid
from sgxl_t.training.loop.ema import Ema
from sgxl_t.training.train_state import TrainState

ENTRIES = 64
"""Entries of each parameter that stand for it, so that a look at a large network copies little."""
IMAGES, CONDITIONS = 36, 6
"""Images in all, of at most so many conditions, each from the same latents."""
RESOLUTION = 16
"""Images are compared at this resolution at most: fine noise is no variety."""
FLAT, SHARP = 0.25, 0.95
"""Shares of a picture: its flattest quarter, where grain shows, and where its sharpest twentieth begins."""
LEAST = 0.5
"""Grey levels: real images with less fine contrast than this have none that others could be measured by."""
ALIKE = 0.25
"""Share of the images whose nearest others say whether pictures repeat."""


class EmaFollowed(Callback):
    """How much of the way from their first weights averages have gone, of the way their networks went.

    Ways are root mean squares over entries, so that weights which are sharded over processes may be looked at
    in part; None where this process holds none.
    """

    def __init__(self, averages: Sequence[tuple[Ema[Any], nn.Module]]) -> None:
        """averages: each with the network that it follows; frozen parameters do not count."""
        pairs = [
            (mine, current)
            for ema, network in averages
            for mine, current in zip(ema.network.parameters(), network.parameters(), strict=True)
            if current.requires_grad
        ]
        self.averages = [mine for mine, _ in pairs]
        self.weights = [current for _, current in pairs]
        self._first = _entries(self.averages), _entries(self.weights)

    def on_start(self, state: TrainState) -> None:
        """A new run may have got its weights from another one since this was made."""
        if state.images_seen == 0:
            self._first = _entries(self.averages), _entries(self.weights)

    def on_tick(self, state: TrainState) -> Line:
        """ema/followed, once a weight has moved."""
        followed = self.followed()
        return {} if followed is None else {"ema/followed": float(f"{followed:.4g}")}

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


class LooksOfSamples(Callback):
    """Measures `Looks` at every snapshot, on conditions and real images of the sample grid."""

    def __init__(self, grid: SampleGrid, *, seed: int) -> None:
        """grid: comes before this one in the list of callbacks."""
        self._grid, self._seed = grid, seed

    def on_start(self, state: TrainState) -> None:
        """Takes over what the grid shows."""
        grid = self._grid
        self._looks = Looks(grid.conditions, grid.real, z_dim=state.g.raw.z_dim, seed=self._seed)

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Adds variety/* and looks/*."""
        snapshot.numbers |= self._looks(snapshot.generator, snapshot.condition)


class Looks:
    """How images look beside real ones, and how they change with latent and condition, on a few images.

    Distances are root mean squares over pixels of reduced images.
    """

    def __init__(self, conditions: Sequence[Any], real: Tensor, *, z_dim: int, seed: int) -> None:
        """conditions: as the run's condition encodes them. real: uint8 [N, 3, R, R], images of the data."""
        self.given = list(dict.fromkeys(conditions))[:CONDITIONS]
        self.z = torch.randn(IMAGES // len(self.given), z_dim, generator=torch.Generator().manual_seed(seed))
        self.real = _spread(_reduced(real)[None])
        self.real_nearest = _nearest(_reduced(real[:IMAGES]))
        self.real_grain, self.real_edges = grain(real), edges(real)
        self.real_fine = fine_contrast(real)

    def __call__(self, generator: Generator, condition: Condition) -> dict[str, float]:
        """variety/samples: distance of two images of one condition, over that of two real images.

        variety/conditions: distance of two images of one latent under two conditions, over that of two of
        one condition. variety/nearest: distance of an image to its nearest other over the mean distance,
        beside that of as many real images; 0 where pictures repeat. looks/grain: `grain` less that of real
        images. looks/sharpness: `edges` over those of real images. looks/noise: fine noise that the noise
        inputs of the generator add, over all fine contrast of real images. Left out where there is nothing
        to compare.
        """
        given = [one for one in self.given for _ in self.z]
        z = self.z.repeat(len(self.given), 1).to(next(generator.parameters()).device)
        images = generate(generator, condition, given, z)
        reduced = _reduced(images)
        crossed = reduced.unflatten(0, (len(self.given), len(self.z)))
        samples = _spread(crossed)
        numbers = {}
        if self.real > 0:
            numbers["variety/samples"] = samples / self.real
        if self.real_nearest > 0:
            numbers["variety/nearest"] = _nearest(reduced) / self.real_nearest
        numbers["looks/grain"] = grain(images) - self.real_grain
        if self.real_edges > LEAST:
            numbers["looks/sharpness"] = edges(images) / self.real_edges
        has_noise = any(name.endswith("noise_strength") for name, _ in generator.named_parameters())
        if has_noise and self.real_fine > LEAST:
            plain = generate(generator, condition, given, z, noise_mode="none")
            numbers["looks/noise"] = fine_contrast(images, plain) / self.real_fine
        if len(self.given) > 1 and samples > 0:
            numbers["variety/conditions"] = _spread(crossed.transpose(0, 1)) / samples
        return {name: float(f"{value:.4g}") for name, value in numbers.items()}


def grain(images: Tensor) -> float:
    """uint8 [N, 3, R, R] -> grey levels of fine noise where pictures are flat, their mean.

    Root mean square of the Laplacian over 3 x 3 pixels, below which a quarter of a picture lies: edges, which
    are elsewhere, hardly count.
    """

    def of_one(fine: Tensor) -> Tensor:
        squares = F.pad(fine.square(), (1, 1, 1, 1), mode="replicate")
        return F.avg_pool2d(squares, 3, 1).sqrt().flatten().quantile(FLAT)

    return fmean(float(of_one(_laplacian(one))) for one in images)


def edges(images: Tensor) -> float:
    """uint8 [N, 3, R, R] -> grey levels by which the sharpest places of pictures stand out, their mean."""
    return fmean(float(_laplacian(one).abs().flatten().quantile(SHARP)) for one in images)


def fine_contrast(images: Tensor, without: Tensor | None = None) -> float:
    """uint8 [N, 3, R, R] -> root mean square of the Laplacian in grey levels.

    without: the same images without what is asked for, whose Laplacian is taken off.
    """
    fine = [_laplacian(one) for one in images]
    if without is not None:
        fine = [mine - _laplacian(other) for mine, other in zip(fine, without, strict=True)]
    return fmean(float(one.square().mean()) for one in fine) ** 0.5


def _laplacian(image: Tensor) -> Tensor:
    """uint8 [3, R, R] -> float32 [1, R, R], of brightness in grey levels; one, as images may be large."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=image.device)
    brightness = torch.einsum("c,chw->hw", weights, image.float())[None, None]
    kernel = torch.tensor([[-1.0, -2.0, -1.0], [-2.0, 12.0, -2.0], [-1.0, -2.0, -1.0]], device=image.device)
    return F.conv2d(F.pad(brightness, (1, 1, 1, 1), mode="replicate"), kernel[None, None] / 16)[0]


def _nearest(rows: Tensor) -> float:
    """rows [N, D] -> distance to the nearest other, lower quartile, over the mean; 0 for N < 3."""
    if len(rows) < 3:
        return 0.0
    distances = torch.pdist(rows.double())
    if not distances.max() > 0:
        return 0.0
    table = torch.full((len(rows), len(rows)), torch.inf, dtype=torch.float64, device=rows.device)
    upper = torch.triu_indices(len(rows), len(rows), 1)
    table[upper[0], upper[1]] = table[upper[1], upper[0]] = distances
    return float(table.amin(dim=1).quantile(ALIKE) / distances.mean())


def _reduced(images: Tensor) -> Tensor:
    """uint8 [N, 3, R, R] -> float32 [N, 3 * S * S] in [0, 1]."""
    resolution = min(RESOLUTION, images.shape[-1])
    return F.adaptive_avg_pool2d(images.float() / 255, resolution).flatten(1)


def _spread(groups: Tensor) -> float:
    """groups [K, N, D] -> root mean square distance per entry of two members of one group; 0 for N = 1."""
    if groups.shape[1] < 2:
        return 0.0
    # Two independent draws differ by twice the variance.
    return float((2 * groups.var(dim=1).mean()).sqrt())
