"""What people look at while a run goes on: sample grids, and the tracked distance that chooses best/."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from sgxl_t.datasets.base import ImageSource
from sgxl_t.metrics import frechet_distance
from sgxl_t.networks.feature_networks import FeatureNetwork
from sgxl_t.ops.images import to_uint8

TRACKED_NETWORK = "random:small_cnn"
"""Untrained, so it took no part in training and needs no weights (rFID in StyleGAN-XL, section 5)."""


@torch.no_grad()
def generate(generator: nn.Module, c: Tensor | None, z: Tensor, *, batch_size: int = 64) -> Tensor:
    """Pictures of an average generator without truncation: uint8 [N, 3, R, R] on the CPU."""
    pictures = []
    for start in range(0, len(z), batch_size):
        part = slice(start, start + batch_size)
        images = generator(z[part], None if c is None else c[part], noise_mode="const")
        pictures.append(to_uint8(images).cpu())
    return torch.cat(pictures)


def save_grid(pictures: Tensor, path: Path, *, columns: int) -> Tensor:
    """pictures: uint8 [N, 3, R, R], row by row. Writes one PNG whole or not at all; returns it [3, H, W]."""
    scale = max(1, 64 // pictures.shape[-1])
    enlarged = pictures.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    grid = make_grid(enlarged, nrow=columns, padding=2, pad_value=128)
    aside = path.with_suffix(".tmp")
    to_pil_image(grid).save(aside, format="PNG")
    os.replace(aside, path)
    return grid


def grid_conditions(source: ImageSource, kind: str, rows: int) -> Sequence[Any]:
    """Conditions of the sample grid, one a row: the first classes, or captions spread over the data."""
    if kind == "class":
        return list(range(min(rows, source.num_classes)))
    if kind == "text":
        step = max(1, len(source) // rows)
        return [source[index].caption or "" for index in range(0, len(source), step)][:rows]
    return [None] * rows


class TrackedDistance:
    """Frechet distance in the features of an untrained network, on fixed latents and conditions.

    Named `fd_random`: it orders the snapshots of one run and is comparable to nothing else.
    """

    def __init__(
        self, source: ImageSource, network: FeatureNetwork, count: int, z_dim: int, seed: int
    ) -> None:
        self.network = network
        count = min(count, len(source))
        order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[:count].tolist()
        samples = [source[index] for index in order]
        self.labels = [sample.label for sample in samples]
        self.captions = [sample.caption for sample in samples]
        self.z = torch.randn(count, z_dim, generator=torch.Generator().manual_seed(seed + 1))
        self.real = self._features(torch.stack([sample.image for sample in samples]))
        self.protocol = (
            f"{count} training against {count} generated pictures, psi 1, seed {seed}, "
            f"pooled features of {network.reference}"
        )

    def given(self, kind: str) -> list[Any]:
        """Labels, captions or nothing of the tracked samples."""
        return {"class": self.labels, "text": self.captions, "none": [None] * len(self.z)}[kind]

    def _features(self, pictures: Tensor) -> Tensor:
        device = next(self.network.parameters()).device
        parts = [self.network.pooled(part.to(device).float() / 255).cpu() for part in pictures.split(128)]
        return torch.cat(parts)

    @torch.no_grad()
    def __call__(self, generator: nn.Module, c: Tensor | None) -> float:
        """c: conditions of all tracked samples as the generator takes them."""
        device = next(generator.parameters()).device
        return float(frechet_distance(self.real, self._features(generate(generator, c, self.z.to(device)))))
