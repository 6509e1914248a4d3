"""Path length regularisation (StyleGAN2, section 3.2; StyleGAN-XL uses it in the stem only)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

AllReduceMean = Callable[[Tensor], Tensor]
"""Takes a tensor of this process, returns its mean over all processes."""


class PathLength:
    """The running mean of path lengths and the penalty on deviations from it.

    The lengths come from `Generator.forward(..., pl_noise=...)`, which holds the inner gradient. The running
    mean is part of a checkpoint (`state_dict`) and equal on all processes.
    """

    def __init__(self, decay: float = 0.01) -> None:
        self.decay = decay
        self.mean = torch.zeros(())

    def penalty(self, lengths: Tensor, all_reduce_mean: AllReduceMean | None = None) -> Tensor:
        """Moves the mean towards these lengths, returns the mean of (length - running mean)^2, not weighted.

        lengths: [N] with gradient, equal N on all processes. The running mean is moved first and takes part
        in the gradient. With several processes pass `all_reduce_mean`; the average of the processes'
        gradients then equals the gradient of one process that holds all samples.
        """
        lengths = lengths.float()
        local = lengths.mean()
        everywhere = local.detach() if all_reduce_mean is None else all_reduce_mean(local.detach())
        self.mean = self.mean.to(lengths.device).lerp(everywhere, self.decay)
        # d(penalty)/d(mean) = -2 (E[length] - mean) with the expectation over all processes: written out
        # as a term of value 0, since autograd on one process sees only that process's share of it.
        through_mean = -2.0 * (everywhere - self.mean) * self.decay * (local - local.detach())
        return (lengths - self.mean).square().mean() + through_mean

    def state_dict(self) -> dict[str, Tensor]:
        """The running mean, for a checkpoint."""
        return {"mean": self.mean.detach().cpu()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over a stored running mean."""
        self.mean = state["mean"].detach().clone().float()


def path_noise(shape: tuple[int, ...], rng: torch.Generator | None, device: torch.device) -> Tensor:
    """The random image [N, C, H, W] that probes the generator: normal, divided by sqrt(H * W)."""
    source = rng.device if rng is not None else device
    noise = torch.randn(shape, generator=rng, device=source).to(device)
    return noise / (shape[-1] * shape[-2]) ** 0.5
