"""What one accumulation round of an update works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.ops.images import as_rgb, from_uint8


@dataclass(frozen=True)
class MicroBatch:
    """Real images and their conditions: one round's share of a batch on this process, on the device.

    All phases of an update see the same micro-batches in the same order.
    """

    images: Tensor
    """uint8 [N, C, R, R] as loaded, a quarter of the floats; or float [N, 3, R, R] in [-1, 1]."""
    cond: Conditioning
    """Of the real images, and of the generated ones unless fake_cond is given."""
    fake_cond: Conditioning | None = None
    """Of the M generated images."""
    shared_fakes: list[Any] = field(default_factory=list)
    """Where objective.share_fakes is set: features of the generated images, without a graph. The generator's
    phase puts them in and the discriminator's takes them out."""
    conditions: Any = None
    """The labels or captions behind `cond`, for a text encoder that learns and has to read them again."""
    position: int = 0
    """Of the first image in the order of all processes: the key of the round's random streams."""

    @property
    def real(self) -> Tensor:
        """The images as floats [N, 3, R, R] in [-1, 1], made anew each time."""
        return self.images if self.images.is_floating_point() else as_rgb(from_uint8(self.images))

    @property
    def generated_cond(self) -> Conditioning:
        """What the generator is asked for."""
        return self.cond if self.fake_cond is None else self.fake_cond
