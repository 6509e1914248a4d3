"""How an update is computed: choices of speed and memory that leave the model what it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from sgxl_t.ops import backend


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Choices of speed and memory. Models do not hold them, and a run may go on with others."""

    conv: Literal["direct", "winograd"] = "direct"
    """Backend of 3x3 convolutions in float32; winograd takes a quarter of the multiplications where it was
    measured to be faster (wide layers on a CPU)."""
    filter: Literal["band", "compiled", "triton"] = "band"
    """Backend of filtered leaky ReLUs (stylegan3); compiled and triton need a compiler, take seconds for
    every size at the start and hold less for the backward pass."""
    checkpoint_from: int | None = None
    """The generator's layers whose maps have at least this resolution keep their inputs alone and are
    computed once more in the backward pass, which saves memory; none keeps everything."""

    def check(self) -> None:
        """Raises ValueError with the value, the rule and the way out."""
        if self.checkpoint_from is not None and self.checkpoint_from < 1:
            raise ValueError(
                f"compute.checkpoint_from={self.checkpoint_from} is no side in pixels: use a positive number "
                "such as 128, or null to keep everything"
            )


@contextmanager
def chosen_backend(config: ComputeConfig) -> Iterator[None]:
    """Inside, the whole process computes in these backends, the threads of backward passes as well."""
    before = backend.set_default(conv=config.conv, filter=config.filter)
    try:
        yield
    finally:
        backend.set_default(conv=before.conv, filter=before.filter)
