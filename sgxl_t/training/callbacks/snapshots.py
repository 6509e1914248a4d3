"""Images of a model for one condition per latent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sgxl_t.conditioning.condition import Condition
from sgxl_t.ops.images import as_rgb, to_uint8


@torch.no_grad()
def generate(
    generator: nn.Module, condition: Condition, given: Sequence[Any], z: Tensor, *, batch_size: int = 64
) -> Tensor:
    """Pictures of an average generator without truncation: uint8 [N, 3, R, R] on the CPU.

    given: a condition per latent of z [N, z_dim], as the condition encodes them.
    """
    c, pictures = condition.encode(list(given)), []
    c = None if c is None else c.to(z.device)
    for start in range(0, len(z), batch_size):
        part = slice(start, start + batch_size)
        text = condition.encode_tokens(given[part])
        images = generator(z[part], None if c is None else c[part], noise_mode="const", text=text)
        pictures.append(to_uint8(as_rgb(images)).cpu())
    return torch.cat(pictures)
