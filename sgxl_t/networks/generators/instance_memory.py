"""What single pictures add to their captions, remembered by a text generator, so that seeds of a caption
differ in kind.

A generator that is told what the very picture it is compared with looks like has less to guess than one that
is told a caption, which fits many pictures: it averages less over them (Casanova et al. 2021,
"Instance-Conditioned GAN"). It is told the caption and, beside it, the deviation: what features of the
picture differ by from what the caption lets expect, a linear function. At sampling there is only a caption:
deviations of pictures of like captions are remembered, and z draws one.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARPNESS = 28.0
"""Advantage of a remembered picture per unit of its caption's cosine to the asked one, against noise of unit
scale. Chosen on emoji-worlds, 8,192 pictures: of those that captions draw, 93 of 100 show the asked thing,
83 the asked colour, and the commonest of five designs is half of them; at 20 it is 91, 78 and two fifths."""
TEMPERATURE = 0.1
"""Below 1, nearly all weight falls on one remembered picture, yet everything stays continuous for walks."""
SAME = 1e-2
"""How far numbers of one network's unit vectors may lie apart, by half precision or by the device."""
RIDGE = 1e-4
"""Share of the mean square that is added to the normal equations' diagonal."""


class InstanceMemory(nn.Module):
    """Latents and caption features to the deviation of one possible picture, chosen by z; empty until `fill`.

    Buffers, all zero at first: `tower` [picture_dim] is what the network that gives features of pictures says
    of a fixed one, by which it is known again. `expected` [dim + 1, picture_dim] gives what is expected for a
    caption, `asking` [dim + 1, picture_dim] the same less its mean and in units of what pictures deviate by,
    `usual` [] is the usual size of its numbers. `keys` [K, picture_dim], what the captions ask for as unit
    vectors, and `deviations` [K, picture_dim] are remembered.
    """

    tower: Tensor
    expected: Tensor
    asking: Tensor
    usual: Tensor
    keys: Tensor
    deviations: Tensor
    directions: Tensor

    def __init__(self, count: int, dim: int, picture_dim: int, z_dim: int) -> None:
        """count: pictures to remember. dim: of caption features, picture_dim: of features of pictures."""
        super().__init__()
        self.register_buffer("tower", torch.zeros(picture_dim))
        self.register_buffer("expected", torch.zeros(dim + 1, picture_dim))
        self.register_buffer("asking", torch.zeros(dim + 1, picture_dim))
        self.register_buffer("usual", torch.ones(()))
        self.register_buffer("keys", torch.zeros(count, picture_dim))
        self.register_buffer("deviations", torch.zeros(count, picture_dim))
        directions = torch.empty(count, z_dim)
        if not directions.is_meta:
            # Of numpy's frozen stream, the same for ever, so no file needs to hold them.
            drawn = np.random.RandomState(0).standard_normal((count, z_dim))
            directions.copy_(F.normalize(torch.from_numpy(drawn), dim=1))
        self.register_buffer("directions", directions, persistent=False)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Latents z [N, z_dim] ~ N(0, 1) and caption features c [N, dim] of unit length -> deviations
        [N, picture_dim], numbers of mean square 1."""
        nearness = SHARPNESS * F.normalize(_affine(c, self.asking), dim=1) @ self.keys.to(c).T
        # Gumbel noise, so that a sample follows the softmax of the nearness; a smooth function of z.
        share = torch.special.ndtr(z.to(c) @ self.directions.to(c).T).clamp(1e-6, 1 - 1e-6)
        weights = ((nearness - (-share.log()).log()) / TEMPERATURE).softmax(dim=1)
        return weights @ self.deviations.to(c)

    def told(self, captions: Tensor, pictures: Tensor) -> Tensor:
        """Deviations [N, picture_dim] of pictures' features [N, picture_dim] from what features of their
        captions [N, dim] let expect; the mean square of their numbers is 1, as of latents."""
        return (pictures - _affine(captions, self.expected)) / self.usual.to(pictures)

    @torch.no_grad()
    def fill(self, captions: Tensor, pictures: Tensor, tower: Tensor) -> None:
        """Remembers features of captions [M, dim] and of their pictures [M, picture_dim], the first K of M.

        tower: features [picture_dim] of `fixed_picture`. What is expected stays for the same network, as the
        generator has learnt by it; else it is fitted to these. Fewer than K are repeated.
        """
        pictures, captions = pictures.to(self.expected), captions.to(self.expected)
        if not torch.allclose(self.tower, tower.to(self.tower), atol=SAME):
            self.tower.copy_(tower)
            self.expected.copy_(_fit(captions, pictures))
            apart = pictures - _affine(captions, self.expected)
            self.usual.copy_(apart.square().mean().sqrt())
        deviations = self.told(captions, pictures)
        mean = _affine(captions, self.expected).mean(0)
        # Differences count as much as pictures of one caption do not have them (Mahalanobis distance).
        spread = deviations.double().T @ deviations.double() / len(deviations)
        scale = torch.linalg.cholesky(torch.linalg.inv(_ridged(spread))).to(deviations)
        self.asking.copy_(torch.cat([self.expected[:-1] @ scale, ((self.expected[-1] - mean) @ scale)[None]]))
        order = torch.arange(len(self.keys), device=deviations.device) % len(deviations)
        self.keys.copy_(F.normalize(_affine(captions, self.asking), dim=1)[order])
        self.deviations.copy_(deviations[order])


def fixed_picture() -> Tensor:
    """[1, 3, 32, 32] in [-1, 1]: slopes of different direction in each colour."""
    slope = torch.linspace(-1, 1, 32)
    return torch.stack([slope.expand(32, 32), slope[:, None].expand(32, 32), slope * slope[:, None]])[None]


def _affine(x: Tensor, weights: Tensor) -> Tensor:
    return x @ weights[:-1].to(x) + weights[-1].to(x)


def _fit(x: Tensor, y: Tensor) -> Tensor:
    """Ridge regression of y [M, B] on x [M, A] with a constant: [A + 1, B]."""
    x = torch.cat([x.double(), x.new_ones(len(x), 1, dtype=torch.float64)], dim=1)
    return torch.linalg.solve(_ridged(x.T @ x), x.T @ y.double()).to(y.dtype)


def _ridged(square: Tensor) -> Tensor:
    """A symmetric matrix [A, A] made safely invertible."""
    return square + RIDGE * square.diagonal().mean() * torch.eye(len(square)).to(square)
