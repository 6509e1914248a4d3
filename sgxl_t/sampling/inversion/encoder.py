"""A small network per model from pictures to w, with axes for steps of w: inversion starts closer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgxl_t.files.tensors import write_tensors
from sgxl_t.files.untrusted import parse_json
from sgxl_t.files.whole import whole_file
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.weights.stored_tensors import opened, read_fitting

FILE = "inversion.safetensors"
"""Its name in the model folder."""
ABOUT = "encoder"
AGAIN = "make it again with `sgxl-t invert-train`"
SIDE, LAST = 64, 4
"""Larger pictures are reduced to this side; the last map has that one."""
FIRST, MOST = 32, 96
"""Channels of the first and at most of any map."""


class Encoder(nn.Module):
    """Pictures [N, C, R, R] in [-1, 1] to w [N, w_dim]: strided convolutions, then one linear layer.

    w comes out as mean + std * y, so that an untrained network gives the average picture. axes: rows are the
    directions in which optimisation should move w from there, in the length of a step of size 1.
    """

    mean: Tensor
    std: Tensor
    axes: Tensor

    def __init__(self, channels: int, resolution: int, w_dim: int) -> None:
        super().__init__()
        self.side = min(resolution, SIDE)
        layers: list[nn.Module] = [nn.Conv2d(channels, FIRST, 3, padding=1), nn.LeakyReLU(0.2)]
        width = FIRST
        for _ in range(int(math.log2(self.side // LAST))):
            wider = min(2 * width, MOST)
            layers += [nn.Conv2d(width, wider, 3, stride=2, padding=1), nn.GroupNorm(8, wider)]
            layers += [nn.LeakyReLU(0.2)]
            width = wider
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(width * LAST * LAST, w_dim)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.register_buffer("mean", torch.zeros(w_dim))
        self.register_buffer("std", torch.ones(w_dim))
        self.register_buffer("axes", torch.eye(w_dim))

    def forward(self, images: Tensor) -> Tensor:
        """images [N, C, R, R] in [-1, 1], of any side from 4 px -> w [N, w_dim]."""
        if images.shape[-1] != self.side:
            images = F.interpolate(images, size=(self.side, self.side), mode="area")
        return self.mean + self.std * self.last(self.layers(images).flatten(1))


def save_encoder(folder: Path, encoder: Encoder, model: str, facts: Mapping[str, Any]) -> Path:
    """Writes the encoder into its model folder in half precision; returns the file.

    model: hash of the model's files. facts: JSON values about its training.
    """
    path = folder / FILE
    tensors = {name: value.half() for name, value in encoder.state_dict().items()}
    about = json.dumps({"format": 1, "model": model, "facts": dict(facts)})
    with whole_file(path) as aside:
        write_tensors(aside, tensors, {ABOUT: about})
    return path


def load_encoder(folder: Path, generator: Generator, model: str | None) -> Encoder | None:
    """The encoder of a model folder, on the CPU and frozen; None where there is none.

    ValueError of one sentence for a broken file, and for one that belongs to other weights.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    with opened(path, AGAIN) as file:
        text = (file.metadata() or {}).get(ABOUT)
    if text is None:
        raise ValueError(f"{path} is a safetensors file without an encoder: {AGAIN}")
    made_for = parse_json(text, str(path), way_out=AGAIN)["model"].text(64)
    if made_for != model:
        raise ValueError(f"{path} was trained for other weights of the model: {AGAIN}")
    config = generator.config
    encoder = Encoder(config.img_channels, config.img_resolution, generator.w_dim)
    encoder.load_state_dict(read_fitting(path, encoder.state_dict(), way_out=AGAIN))
    return encoder.eval().requires_grad_(False)
