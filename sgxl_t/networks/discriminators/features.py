"""What the frozen half of a discriminator has beside its forward pass."""

from __future__ import annotations

from torch import Tensor, nn


class FrozenFeatures(nn.Module):
    """Images to what the heads look at, with nothing trainable; by default nothing random either."""

    def calibrate(self, images: Tensor) -> None:
        """Called once, at the start of a run, with real images [N, 3, R, R] in [-1, 1]; measures scales."""

    def projection_state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: random layers between the frozen networks and the heads."""
        return {}

    def load_projection_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `projection_state` gave; RuntimeError where there is anything else."""
        if state:
            raise RuntimeError(f"these features keep no projection, yet one was stored: {sorted(state)[:3]}")
