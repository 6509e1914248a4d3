"""Training of an encoder from what its generator makes, since there w is known for every picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.sampling.inversion.encoder import Encoder
from sgxl_t.sampling.inversion.losses import pixel_loss
from sgxl_t.sampling.inversion.style_pool import StylePool, synthesize

BATCH = 32
RATE = 2e-3
PIXEL_SHARE = 0.3
"""Last part of training, in which the picture counts as well: w that differ may show the same."""
PIXEL_WEIGHT = 2.0
LOWEST_PSI = 0.5
"""Pairs are truncated by psi from here to 1, since photographs are often more typical than random w."""


@dataclass
class TrainingReport:
    """Loss of w before training (1 by construction) and at its end, as shares of the variance of w."""

    images: int
    loss: float


def train_encoder(
    pool: StylePool, images: int, *, seed: int = 0, progress: Callable[[int, float], None] | None = None
) -> tuple[Encoder, TrainingReport]:
    """An encoder trained on so many generated pictures, and how well it does.

    The same model, number and seed on one device give the same encoder.
    progress: called after every batch with the pictures seen and the loss of w. A KeyboardInterrupt passes
    through and leaves nothing, as training takes minutes.
    """
    generator = pool.generator
    config = generator.config
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(config.img_channels, config.img_resolution, generator.w_dim).to(pool.device)
    mean, std = pool.spread
    encoder.mean.copy_(mean)
    encoder.std.copy_(std)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=RATE)
    steps, smooth = max(1, images // BATCH), 1.0
    for step in range(steps):
        share = step / steps
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * share))
        w, target = _pairs(pool, rng, mean)
        found = encoder(target)
        of_w = F.mse_loss((found - w) / std, torch.zeros_like(w))
        loss = of_w
        if share >= 1 - PIXEL_SHARE:
            loss = loss + PIXEL_WEIGHT * pixel_loss(synthesize(generator, found[:, None]), target).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        smooth += (float(of_w.detach()) - smooth) * max(0.02, 1 / (step + 1))
        if progress is not None:
            progress((step + 1) * BATCH, smooth)
    return encoder.eval().requires_grad_(False), TrainingReport(steps * BATCH, smooth)


@torch.no_grad()
def _pairs(pool: StylePool, rng: torch.Generator, mean: Tensor) -> tuple[Tensor, Tensor]:
    """w [B, w_dim] and their images [B, C, R, R], limited to [-1, 1] as stored pictures are.

    Only the part of w that no condition sets is truncated, towards the mean of all.
    """
    w = pool.draw(BATCH, rng).w
    psi = torch.empty(BATCH, 1).uniform_(LOWEST_PSI, 1, generator=rng).to(w)
    width = pool.free_width
    w = torch.cat([mean[:width].lerp(w[:, :width], psi), w[:, width:]], dim=1)
    return w, synthesize(pool.generator, w[:, None]).clamp(-1, 1)
