"""Layers of StyleGAN-T's synthesis network (Sauer et al. 2023, section 3.1)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgxl_t.networks.layers import FullyConnected
from sgxl_t.ops.bias_act import bias_act
from sgxl_t.ops.conv.modulated_conv import ConvSpec, modulated_conv
from sgxl_t.ops.resample.filters import setup_filter

TAPS = (1, 3, 3, 1)
"""Binomial low-pass filter used wherever a map or an image doubles its size."""


class StyleAffine(nn.Module):
    """Second-order polynomial of w: three linear outputs m1, m2, m3 joined as m1 * m2 + m3."""

    def __init__(self, w_dim: int, channels: int) -> None:
        super().__init__()
        self.proj = FullyConnected(w_dim, 3 * channels, bias_init=1.0)

    def forward(self, w: Tensor) -> Tensor:
        """w [N, w_dim] -> style [N, channels], float32, about 2 +- 0.5 at the start."""
        m1, m2, m3 = self.proj(w).chunk(3, dim=1)
        return torch.addcmul(m3, m1, m2)


class ModulatedLayer(nn.Module):
    """3x3 modulated convolution, noise, bias, leaky ReLU, clamp; optionally with doubled output size."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        *,
        up: int = 1,
        act_gain: float = math.sqrt(2),
        conv_clamp: float | None = 256.0,
        use_noise: bool = True,
    ) -> None:
        """resolution: side of the output. act_gain: of the activation; the clamp is conv_clamp at sqrt(2).

        use_noise: without it the layer has no noise strength and no constant noise, and takes none.
        """
        super().__init__()
        # Stored weights of upsampling layers are turned round.
        self.conv = ConvSpec(up=up, padding=1, gain=act_gain, flip_weight=up == 1)
        self.resolution = resolution
        self.clamp = None if conv_clamp is None else conv_clamp * act_gain / math.sqrt(2)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.affine = StyleAffine(w_dim, in_channels)
        if use_noise:
            # Stored as a scalar, as published; held as one element, since back ends cannot shard scalars.
            self.noise_strength = nn.Parameter(torch.zeros(1))
            self.register_load_state_dict_pre_hook(_read_strength)
            self.register_state_dict_post_hook(_stored_strength)
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("resample_filter", setup_filter(TAPS, separable=True), persistent=False)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """x [N, in, H, H], w [N, w_dim] -> [N, out, r, r] with r = H * up.

        noise: N(0, 1) of shape [N, 1, r, r] or [r, r], scaled by the learned strength; none adds nothing.
        """
        return self._activated(x, w, noise, scale=1.0)

    def _activated(self, x: Tensor, w: Tensor, noise: Tensor | None, scale: float) -> Tensor:
        """The layer for an input that carries the factor `scale`; its output carries the same factor.

        Noise, bias and clamp take the factor too: demodulation does not see x, the activation is homogeneous.
        For the same reason its gain acts before it, where it costs nothing.
        """
        added = scale * self.conv.gain
        y = modulated_conv(
            x,
            self.weight,
            self.affine(w),
            self.conv,
            resample_filter=self.resample_filter if self.conv.up > 1 else None,
            noise=None if noise is None else noise * (self.noise_strength * added),
            bias=self.bias * added,
        )
        clamp = None if self.clamp is None else self.clamp * scale
        return bias_act(y, act="lrelu", gain=1.0, clamp=clamp, inplace=True)


def _read_strength(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    name = f"{prefix}noise_strength"
    if name in state:
        state[name] = state[name].reshape(1)


def _stored_strength(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """A strength that is spread over processes stays as it is."""
    name = f"{prefix}noise_strength"
    if type(state.get(name)) is Tensor and state[name].numel() == 1:
        state[name] = state[name].reshape(())


class ResidualLayer(ModulatedLayer):
    """Residual form: the input is group-normalised and the layer's output, scaled by gamma, is added to that.

    The skip path carries the normalised input, not the input: every such layer normalises the trunk again.
    """

    def __init__(
        self,
        channels: int,
        w_dim: int,
        resolution: int,
        *,
        norm_groups: int = 32,
        layer_scale_init: float = 1e-5,
        **options: Any,
    ) -> None:
        """norm_groups: upper limit; the largest common divisor with `channels` is used. options: as above."""
        super().__init__(channels, channels, w_dim, resolution, **options)
        self.norm = nn.GroupNorm(math.gcd(norm_groups, channels), channels)
        self.gamma = nn.Parameter(torch.full((1, channels, 1, 1), layer_scale_init))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """x [N, C, r, r], w [N, w_dim] -> sqrt(2) * (g + gamma * layer(g)), g the normalised input."""
        root = math.sqrt(2)  # folded into the normalisation: no pass over the map for the factor alone
        norm = self.norm
        scale, shift = (value.to(x.dtype) for value in (norm.weight * root, norm.bias * root))
        g = F.group_norm(x, norm.num_groups, scale, shift, norm.eps)  # sums in float32 whatever the dtype
        return torch.addcmul(g, self.gamma.to(x.dtype), self._activated(g, w, noise, scale=root))


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to the image, without demodulation, noise or activation."""

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, *, conv_clamp: float | None = 256.0
    ) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1) * 0.1)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.affine = StyleAffine(w_dim, in_channels)
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x [N, C, r, r], w [N, w_dim] -> image [N, out_channels, r, r], float32.

        Three outputs per pixel: one small matrix per sample is cheaper than a scaled copy of the map.
        """
        style = self.affine(w) * self.weight_gain
        matrix = self.weight.flatten(1) * style.unsqueeze(1)
        image = torch.bmm(matrix.to(x.dtype), x.flatten(2)).float() + self.bias.view(-1, 1)
        if self.conv_clamp is not None:
            image = image.clamp(-self.conv_clamp, self.conv_clamp)
        return image.unflatten(2, x.shape[2:])
