"""Training of an encoder on what its generator makes and on real pictures; and the axes of later steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.datasets.base import ImageSource
from sgxl_t.datasets.loading.loader import batches
from sgxl_t.datasets.loading.options import BatchOptions
from sgxl_t.ops.images import from_uint8
from sgxl_t.sampling.inversion.encoder import Encoder
from sgxl_t.sampling.inversion.losses import open_features, pixel_loss, random_sums
from sgxl_t.sampling.inversion.settings import FEATURE_WEIGHT
from sgxl_t.sampling.inversion.style_pool import StylePool, synthesize

BATCH = 32
RATE = 2e-3
PICTURE_SHARE = 0.6
"""Last part of training, in which the picture counts as well: w that differ may show the same, and of real
pictures nobody knows w. Before it, no gradient passes through the generator, which makes a step cheap."""
PICTURE_WEIGHT = 2.0
PULL = 0.01
"""Weight of the mean square of w that real pictures get, in standard deviations: w far out can be met by
pictures that no latent comes near, and are bad places to go on from."""
LOOKED_AT = 1280
"""Pictures whose gradients set the axes of steps."""
LOWEST_PSI = 0.5
"""Pairs are truncated by psi from here to 1, since photographs are often more typical than random w."""


@dataclass
class TrainingReport:
    """Pictures that were made and real ones that were seen, with repetition. loss: that of w at the end of
    training as a share of the variance of w, 1 by construction before it."""

    images: int
    real: int
    loss: float


def train_encoder(
    pool: StylePool,
    images: int,
    *,
    data: ImageSource | None = None,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> tuple[Encoder, TrainingReport]:
    """An encoder trained on so many pictures, and how well it does.

    data: real pictures of the generator's resolution and channels, which are half of each batch in the last
    part of training. Their loss is that of inversion: the generator's picture of the encoder's w against them
    (Richardson et al. 2021, Alaluf et al. 2021). The same model, data, number and seed on one device give the
    same encoder. progress: called after every batch with the pictures seen and the loss of w. A
    KeyboardInterrupt passes through and leaves nothing, as training takes minutes.
    """
    rng = torch.Generator().manual_seed(seed)
    encoder = _untrained(pool, seed)
    mean, std = pool.spread
    real = None if data is None else _real(data, seed, pool.device)
    likeness = _Likeness(pool)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=RATE)
    report = TrainingReport(0, 0, 1.0)
    steps = max(1, images // BATCH)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps)
        looking = step >= (1 - PICTURE_SHARE) * steps
        known = BATCH if real is None or not looking else BATCH // 2
        w, target = _pairs(pool, rng, known)
        if real is not None and looking:
            target = torch.cat([target, next(real)])
        found = encoder(target)
        off = (found - mean) / std
        of_w = F.mse_loss(off[:known], (w - mean) / std)
        loss = of_w
        if looking:
            loss = loss + PICTURE_WEIGHT * likeness.loss(found, target)
            loss = loss + PULL * off[known:].square().sum() / off.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        report.images, report.real = report.images + known, report.real + BATCH - known
        report.loss += (float(of_w.detach()) - report.loss) * max(0.02, 1 / (step + 1))
        if progress is not None:
            progress(report.images + report.real, report.loss)
    encoder.eval().requires_grad_(False)
    encoder.axes.copy_(_axes(pool, encoder, rng, real))
    return encoder, report


class _Likeness:
    """How far the generator's pictures of w are from others: inversion's loss with its usual features."""

    def __init__(self, pool: StylePool) -> None:
        self.generator, self.features = pool.generator, open_features(None, pool.device)

    def loss(self, w: Tensor, target: Tensor) -> Tensor:
        """w [N, w_dim], target [N, C, R, R] in [-1, 1] -> the mean loss."""
        images = synthesize(self.generator, w[:, None])
        with torch.no_grad():
            embedded = self.features.embed(target)
        each = pixel_loss(images, target) + FEATURE_WEIGHT * self.features.distance(images, embedded)
        return each.mean()


def _untrained(pool: StylePool, seed: int) -> Encoder:
    """An encoder that gives the average picture, whatever it sees."""
    generator, config = pool.generator, pool.generator.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(config.img_channels, config.img_resolution, generator.w_dim).to(pool.device)
    mean, std = pool.spread
    encoder.mean.copy_(mean)
    encoder.std.copy_(std)
    return encoder


def _rate(step: int, steps: int) -> float:
    """Up in a line over 50 steps, down along a cosine over all."""
    return RATE * min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _real(data: ImageSource, seed: int, device: torch.device) -> Iterator[Tensor]:
    """Real pictures [B / 2, C, R, R] in [-1, 1] without end, in a random order that a seed sets."""
    for batch in batches(data, BatchOptions(batch_size=BATCH // 2, seed=seed)):
        yield from_uint8(batch.images.to(device))


def _axes(pool: StylePool, encoder: Encoder, rng: torch.Generator, real: Iterator[Tensor] | None) -> Tensor:
    """Directions [w_dim, w_dim] in which steps of w disturb each other least, in standard deviations of w.

    They are the eigenvectors of the mean Gauss-Newton matrix of the pixel loss, where w are what the encoder
    says of pictures. Adam fits a rate to each coordinate, which is of little use while all of them change the
    same pixels.
    """
    std, generator = encoder.std, pool.generator
    bent = torch.zeros(len(std), len(std), dtype=torch.float64)
    seen = 0
    while seen < LOOKED_AT:
        pictures = _pairs(pool, rng, BATCH // 2)[1] if real is None else next(real)
        w = encoder(pictures)
        moved = torch.zeros_like(w, requires_grad=True)
        sums = random_sums(synthesize(generator, (w + moved * std)[:, None]), rng)
        (slopes,) = torch.autograd.grad(sums.sum(), moved)
        slopes = slopes.double().cpu()
        bent += slopes.T @ slopes
        seen += len(w)
    return torch.linalg.eigh(bent).eigenvectors.T.to(std) * std


@torch.no_grad()
def _pairs(pool: StylePool, rng: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    """w [N, w_dim] and their images [N, C, R, R], limited to [-1, 1] as stored pictures are.

    Only the part of w that no condition sets is truncated, towards the mean of all.
    """
    w, mean, width = pool.draw(count, rng).w, pool.spread[0], pool.free_width
    psi = torch.empty(count, 1).uniform_(LOWEST_PSI, 1, generator=rng).to(w)
    w = torch.cat([mean[:width].lerp(w[:, :width], psi), w[:, width:]], dim=1)
    return w, synthesize(pool.generator, w[:, None]).clamp(-1, 1)
