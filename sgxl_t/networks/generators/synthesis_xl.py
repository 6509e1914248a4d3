"""Alias-free synthesis network (StyleGAN3) in StyleGAN-XL's sizes: styles to images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn

from sgxl_t.networks.configs import GeneratorConfig
from sgxl_t.networks.generators.fourier_input import SynthesisInput
from sgxl_t.networks.generators.recompute import recomputed
from sgxl_t.networks.generators.schedule_xl import LayerSpec, all_layers
from sgxl_t.networks.layers import FullyConnected, full_precision
from sgxl_t.networks.text.tokens import Text
from sgxl_t.ops.conv.modulated_conv import modulated_conv_sg3
from sgxl_t.ops.filtered_lrelu.dispatch import filtered_lrelu
from sgxl_t.ops.filtered_lrelu.plan import LreluSpec
from sgxl_t.ops.resample.filters import lowpass_filter

OUTPUT_GAIN = math.sqrt(2)
"""Gain of the leaky ReLU, which keeps the variance."""


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype that autocast wants for convolutions of x; the dtype of x outside autocast."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


def map_dtype(x: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The dtype that maps keep between products in `dtype`.

    A CPU that only samples keeps float32: its filters work in that, and four roundings a layer become two.
    """
    return x.dtype if x.device.type == "cpu" and not torch.is_grad_enabled() else dtype


def lrelu_spec(spec: LayerSpec) -> LreluSpec:
    """Numbers of the layer's nonlinearity; ToRGB has none, only its clamp."""
    low, high = spec.padding
    gain, slope = (1.0, 1.0) if spec.is_torgb else (OUTPUT_GAIN, 0.2)
    return LreluSpec(spec.up_factor, spec.down_factor, (low, high, low, high), gain, slope, spec.conv_clamp)


class SynthesisLayer(nn.Module):
    """Modulated convolution and alias-free leaky ReLU, or ToRGB (StyleGAN3, section 3.2 and appendix G.1).

    Under autocast only the convolution and the nonlinearity run in half precision; style, affine and the
    energies of the weight stay in float32.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None
    lrelu: Callable[..., Tensor] = staticmethod(filtered_lrelu)

    def __init__(self, spec: LayerSpec, w_dim: int) -> None:
        super().__init__()
        self.spec = spec
        self.lrelu_spec = lrelu_spec(spec)
        self.affine = FullyConnected(w_dim, spec.in_channels, bias_init=1.0)
        shape = (spec.out_channels, spec.in_channels, spec.kernel, spec.kernel)
        self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(spec.out_channels))
        # StyleGAN-XL never moves this average: with projected discriminators it collapses.
        self.register_buffer("magnitude_ema", torch.ones([]))
        up = lowpass_filter(spec.up_taps, spec.in_cutoff, 2 * spec.in_half_width, spec.tmp_sampling_rate)
        down = lowpass_filter(
            spec.down_taps,
            spec.out_cutoff,
            2 * spec.out_half_width,
            spec.tmp_sampling_rate,
            radial=spec.use_radial_filters and not spec.is_critically_sampled,
        )
        self.register_buffer("up_filter", up)
        self.register_buffer("down_filter", down)

    def forward(self, x: Tensor, w: Tensor, *, magnitude_beta: float | None = None) -> Tensor:
        """x: [N, in_channels, in_size, in_size], w: [N, w_dim] -> [N, out_channels, out_size, out_size].

        magnitude_beta: decay of the running mean square of x, updated before use, as StyleGAN3 trains; none,
        as StyleGAN-XL does, keeps the stored value.
        """
        spec, dtype = self.spec, compute_dtype(x)
        if magnitude_beta is not None:
            with torch.no_grad():
                self.magnitude_ema.lerp_(x.float().square().mean(), 1 - magnitude_beta)
        style = self.affine(w)
        if spec.is_torgb:
            style = style / math.sqrt(spec.in_channels * spec.kernel**2)
        with full_precision(x.device):
            x = modulated_conv_sg3(
                x.to(map_dtype(x, dtype)),
                self.weight,
                style,
                demodulate=not spec.is_torgb,
                padding=spec.kernel - 1,
                input_gain=self.magnitude_ema.rsqrt(),
                dtype=dtype,
            )
            return self.lrelu(
                x,
                self.up_filter,
                self.down_filter,
                self.bias.to(x.dtype),
                self.lrelu_spec,
            )

    def extra_repr(self) -> str:
        """Sizes for print(module)."""
        spec = self.spec
        return f"{spec.in_channels} -> {spec.out_channels} channels, {spec.in_size} -> {spec.out_size} px"


class SynthesisXL(nn.Module):
    """Styles [N, num_ws, w_dim] to images [N, img_channels, R, R].

    ws[:, 0] feeds the Fourier input, ws[:, i + 1] the i-th of `layer_names`. `head_layer_names` are the
    layers of the newest super-resolution head; of a stem, all layers.
    """

    input: SynthesisInput

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        sizes = config.stylegan3
        kept, head = all_layers(config)
        self.config = config
        self.img_resolution = config.img_resolution
        self.recompute_from: int | None = None
        self.w_dim = sizes.w_dim
        first = (kept + head)[0]
        self.input = SynthesisInput(
            w_dim=sizes.w_dim,
            channels=first.in_channels,
            size=first.in_size,
            sampling_rate=first.in_sampling_rate,
            bandwidth=first.in_cutoff,
        )
        self.layer_names: list[str] = []
        for spec in kept + head:
            self.add_module(spec.name, SynthesisLayer(spec, sizes.w_dim))
            self.layer_names.append(spec.name)
        self.head_layer_names = [spec.name for spec in head]

    @property
    def num_ws(self) -> int:
        """Styles consumed: one for the input and one per layer."""
        return len(self.layer_names) + 1

    def layers(self) -> list[SynthesisLayer]:
        """All layers in order, ToRGB last."""
        return [cast(SynthesisLayer, self.get_submodule(name)) for name in self.layer_names]

    def forward(
        self,
        ws: Tensor,
        *,
        noise_mode: Literal["random", "const", "none"] = "random",
        rng: torch.Generator | None = None,
        tokens: Text | None = None,
    ) -> Tensor:
        """ws [N, num_ws, w_dim] -> float32 images [N, img_channels, R, R], about [-1, 1], not limited to it.

        noise_mode, rng and tokens are there so that both families are called alike: these layers have no
        noise and attend to nothing, so they are ignored.
        """
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(
                f"styles of shape {tuple(ws.shape)} were given: pass ws [N, {self.num_ws}, {self.w_dim}]"
            )
        first, *styles = ws.unbind(dim=1)
        x = self.input(first)
        for layer, w in zip(self.layers(), styles, strict=True):
            x = recomputed(layer, x, w) if self._recomputes(layer) else layer(x, w)
        return x.to(torch.promote_types(ws.dtype, torch.float32)) * self.config.stylegan3.output_scale

    def _recomputes(self, layer: SynthesisLayer) -> bool:
        return self.recompute_from is not None and layer.spec.out_size >= self.recompute_from
