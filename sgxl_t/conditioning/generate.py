"""Images from a generator, conditions and latents, as training shows them and metrics measure them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from sgxl_t.conditioning.condition import Condition
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.ops.images import as_rgb, to_uint8


@torch.no_grad()
def images_of(
    generator: Generator,
    cond: Conditioning,
    z: Tensor,
    *,
    psi: float = 1.0,
    noise_mode: Literal["const", "none"] = "const",
) -> Tensor:
    """float32 [N, 3, R, R], about [-1, 1], of latents z [N, z_dim]. psi: of truncation.

    noise_mode: the stored noise of every layer, or none.
    """
    images = generator(z, cond, truncation_psi=psi, noise_mode=noise_mode)
    assert isinstance(images, Tensor)
    return as_rgb(images)


@torch.no_grad()
def generate(
    generator: Generator,
    condition: Condition,
    conditions: Sequence[Any],
    z: Tensor,
    *,
    noise_mode: Literal["const", "none"] = "const",
    batch_size: int = 64,
) -> Tensor:
    """uint8 images [N, 3, R, R] on the CPU, without truncation.

    conditions: one per latent of z [N, z_dim], as the condition encodes them. noise_mode: see `images_of`.
    """
    cond = condition.encode(list(conditions)).to(z.device)
    parts = [slice(start, start + batch_size) for start in range(0, len(z), batch_size)]
    images = [images_of(generator, cond.rows(part), z[part], noise_mode=noise_mode) for part in parts]
    return torch.cat([to_uint8(part).cpu() for part in images])
