"""Path length regularisation (StyleGAN2, section 3.2; StyleGAN-XL uses it in the stem only)."""

from __future__ import annotations

import torch
from torch import Tensor


class PathLength:
    """The running mean of path lengths and the penalty on deviations from it.

    The lengths come from `Generator.forward(..., pl_noise=...)`, which holds the inner gradient.
    mean: the running mean, a scalar that moves in place; part of a checkpoint (`state_dict`).
    """

    def __init__(self, decay: float = 0.01, device: torch.device | str = "cpu") -> None:
        self.decay = decay
        self.mean = torch.zeros((), device=device)

    def penalty(self, lengths: Tensor) -> Tensor:
        """Moves the mean towards these lengths, returns the mean of (length - running mean)^2, not weighted.

        lengths: [N] with gradient. The running mean is moved first and takes part in the gradient.
        """
        lengths = lengths.float()
        moved = self.mean.lerp(lengths.mean(), self.decay)
        self.mean.copy_(moved.detach())
        return (lengths - moved).square().mean()

    def state_dict(self) -> dict[str, Tensor]:
        """The running mean, for a checkpoint."""
        return {"mean": self.mean.cpu()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over a stored running mean."""
        self.mean.copy_(state["mean"])


def path_noise(shape: tuple[int, ...], rng: torch.Generator | None, device: torch.device) -> Tensor:
    """The random image [N, C, H, W] that probes the generator: normal, divided by sqrt(H * W)."""
    source = rng.device if rng is not None else device
    noise = torch.randn(shape, generator=rng, device=source).to(device, non_blocking=True)
    return noise / (shape[-1] * shape[-2]) ** 0.5
