"""What a filtered leaky ReLU is made of: its numbers, and the maps that follow from them and the filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sgxl_t.ops.resample.planes import BandPair, Chunk


@dataclass(frozen=True)
class LreluSpec:
    """Numbers of a filtered leaky ReLU.

    up, down: factors of the sampling rate before and after the activation. padding: on the upsampled grid,
    one value, [x, y] or [left, right, top, bottom]; negative values crop. gain: factor after the activation.
    slope: of negative values. clamp: the activation's result stays in [-clamp, clamp]; None for no limit.
    ValueError for a gain that is not positive or a negative clamp.
    """

    up: int = 1
    down: int = 1
    padding: int | Sequence[int] = 0
    gain: float = 2**0.5
    slope: float = 0.2
    clamp: float | None = None

    def __post_init__(self) -> None:
        if not self.gain > 0 or (self.clamp is not None and self.clamp < 0):
            raise ValueError(
                f"gain={self.gain}, clamp={self.clamp}: use a positive gain, and a clamp of 0 or more or None"
            )


class Plan(NamedTuple):
    """Everything but the tensors: both pairs of maps, the activation and the chunks."""

    up: BandPair
    down: BandPair
    slope: float
    clamp: float | None
    chunks: list[Chunk]

    def transposed(self) -> Plan:
        """The plan of the adjoint, in which the maps change places."""
        return self._replace(up=self.down.transposed(), down=self.up.transposed())
