"""One picture moved by its input: an alias-free generator draws the same picture at another place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from sgxl_t.networks.generators.fourier_input import SynthesisInput
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.synthesis_t import SynthesisT
from sgxl_t.networks.generators.synthesis_xl import SynthesisXL
from sgxl_t.sampling.sample_spec import MAX_FRAMES, Drawable, MovedFrame

Move = Literal["translate", "rotate"]
RADIUS = 1 / 8
"""Of the circle on which a translated picture moves, as a share of its side; as far as EQ-T moves it."""


def plan_move(spec: Drawable, frames: int, move: str) -> list[MovedFrame]:
    """frames + 2 images of one picture on its way round; the first and the last are the unmoved one.

    translate: its middle runs once round a circle whose radius is an eighth of the side. rotate: it turns
    once, to the left.
    """
    if move not in get_args(Move):
        raise ValueError(f"move={move!r} is unknown: use {' or '.join(get_args(Move))}")
    if not 0 <= frames <= MAX_FRAMES:
        raise ValueError(f"frames={frames} is out of range: use 0 to {MAX_FRAMES}, such as 47")
    turns = [number / (frames + 1) % 1 for number in range(frames + 2)]
    if move == "rotate":
        return [MovedFrame(spec, degrees=360 * turn) for turn in turns]
    return [
        MovedFrame(
            spec,
            right=RADIUS * math.sin(2 * math.pi * turn),
            down=RADIUS * (1 - math.cos(2 * math.pi * turn)),
        )
        for turn in turns
    ]


def input_of(generator: Generator) -> SynthesisInput:
    """The Fourier input; ValueError for a generator without one."""
    synthesis = generator.synthesis
    found = synthesis.input if isinstance(synthesis, SynthesisXL) else None
    if isinstance(synthesis, SynthesisT):
        found = synthesis.blocks()[0].input
    if not isinstance(found, SynthesisInput):
        raise ValueError(
            f"a generator of family {generator.config.family} has no input that moves: leave --move out"
        )
    return found


def inverse_motion(frames: Sequence[MovedFrame], turned: Tensor | None = None) -> Tensor:
    """What the input is told, float64 [N, 3, 3]: for each frame the inverse of turning, then shifting.

    turned: bool [N], frames whose picture is mirrored after it is drawn, and so is moved the other way.
    """
    matrices = []
    ways = [1] * len(frames) if turned is None else (1 - 2 * turned.int()).tolist()
    for frame, way in zip(frames, ways, strict=True):
        angle = way * math.radians(frame.degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        # The axes point right and down, so a turn to the left has the sign of a clockwise one upwards.
        matrices.append([[cos, sin, way * frame.right], [-sin, cos, frame.down], [0.0, 0.0, 1.0]])
    return torch.linalg.inv(torch.tensor(matrices, dtype=torch.float64))
