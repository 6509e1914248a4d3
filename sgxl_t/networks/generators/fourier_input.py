"""Fourier-feature input of both generator families: a learned, rotatable, translatable plane of sines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sgxl_t.networks.layers import FullyConnected, full_precision


class SynthesisInput(nn.Module):
    """Sines of random frequency and phase, moved by the style, mixed over channels (StyleGAN3, section 3.2).

    `transform` [3, 3] is the user's: the inverse of the wanted rotation and shift; identity at first.
    The picture spans [-1/2, 1/2]; what lies outside is margin.
    """

    weight: nn.Parameter
    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(
        self, w_dim: int, channels: int, size: int | tuple[int, int], sampling_rate: float, bandwidth: float
    ) -> None:
        """size: side in pixels or (width, height); sampling_rate, bandwidth: per picture side."""
        super().__init__()
        self.size = (size, size) if isinstance(size, int) else size
        self.sampling_rate = sampling_rate
        self.bandwidth = bandwidth
        # Dividing by r * exp(r^2 / 4) makes the normal distribution about uniform on a disc.
        directions = torch.randn(channels, 2)
        radii = directions.square().sum(dim=1, keepdim=True).sqrt()
        self.register_buffer("freqs", directions * bandwidth / (radii * (radii.square() / 4).exp()))
        self.register_buffer("phases", torch.rand(channels) - 0.5)
        self.register_buffer("transform", torch.eye(3))
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.affine = FullyConnected(w_dim, 4, weight_init=0.0)
        with torch.no_grad():
            assert self.affine.bias is not None
            self.affine.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))

    def forward(self, w: Tensor) -> Tensor:
        """w: [N, w_dim] -> [N, channels, height, width], float32."""
        with full_precision(w.device):
            freqs, phases = self._moved(self.affine(w))
            across, down = (self._grid(side) for side in self.size)
            # Angles in turns, [N, C, H, W]; the first frequency runs along the width.
            turns = (freqs[:, :, :1] * across)[:, :, None, :] + (freqs[:, :, 1:] * down)[:, :, :, None]
            waves = torch.sin(2 * math.pi * (turns + phases[:, :, None, None]))
            waves = waves * self._amplitudes(freqs)[:, :, None, None]
            weight = self.weight / math.sqrt(self.weight.shape[1])
            return torch.einsum("oc,nchw->nohw", weight.to(waves.dtype), waves)

    def _moved(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Frequencies [N, C, 2] and phases [N, C] after the style's motion t [N, 4] and the user's."""
        cos, sin, shift_x, shift_y = (t / t[:, :2].norm(dim=1, keepdim=True)).unbind(dim=1)
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        rotate = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1).view(-1, 3, 3)
        shift = torch.stack([one, zero, -shift_x, zero, one, -shift_y, zero, zero, one], dim=1).view(-1, 3, 3)
        matrix = rotate @ shift @ self.transform.to(t.dtype)
        freqs = self.freqs.to(t.dtype)
        phases = self.phases.to(t.dtype) + matrix[:, :2, 2] @ freqs.T
        return freqs @ matrix[:, :2, :2], phases

    def _amplitudes(self, freqs: Tensor) -> Tensor:
        """[N, C] for freqs [N, C, 2]: 1 up to the bandwidth, linearly down to 0 at the Nyquist rate."""
        nyquist = self.sampling_rate / 2
        beyond = torch.linalg.vector_norm(freqs, dim=2) - self.bandwidth
        return 1 - (beyond / (nyquist - self.bandwidth)).clamp(0, 1)

    def _grid(self, side: int) -> Tensor:
        """Sample centres [side] along one axis, in pictures."""
        places = torch.arange(side, device=self.freqs.device, dtype=self.freqs.dtype)
        return (places + 0.5 - side / 2) / self.sampling_rate


@contextmanager
def moved_input(layer: nn.Module, inverse: Tensor) -> Iterator[None]:
    """Inside of the block the input moves image n of a batch by the inverse of inverse[n], [N, 3, 3].

    It comes on top of the transform that the layer has, which is back afterwards.
    """
    original = layer.transform
    assert isinstance(original, Tensor)
    layer.transform = original @ inverse.to(original)
    try:
        yield
    finally:
        layer.transform = original
