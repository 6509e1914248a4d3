"""Synthesis network of StyleGAN-T: residual blocks from 8x8 up, one image output per block, summed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import repeat
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sgxl_t.networks.configs import GeneratorConfig, StyleGANTConfig
from sgxl_t.networks.generators.fourier_input import SynthesisInput
from sgxl_t.networks.generators.layers_t import TAPS, ModulatedLayer, ResidualLayer, ToRGB
from sgxl_t.networks.generators.recompute import recomputed
from sgxl_t.networks.generators.synthesis_xl import compute_dtype
from sgxl_t.networks.generators.text_attention import TextAttention
from sgxl_t.networks.layers import full_precision
from sgxl_t.networks.text.tokens import Text, TextBlend
from sgxl_t.ops.resample.filters import setup_filter
from sgxl_t.ops.resample.resample import upsample2d

NoiseMode = Literal["random", "const", "none"]

FIRST_RESOLUTION = 8
"""Side of the first block, which reads Fourier features."""

BRANCH_GAIN = 1.0
"""Gain of the activation in plain and residual layers, which keeps features at unit scale."""


class SynthesisBlock(nn.Module):
    """One resolution: upsampling layer or Fourier input, pairs of plain and residual layers, ToRGB."""

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        config: StyleGANTConfig,
        img_channels: int,
        token_dim: int = 0,
    ) -> None:
        """in_channels: channels of the block below, 0 in the first block. token_dim: width of the tokens."""
        super().__init__()
        common: dict[str, Any] = {"conv_clamp": config.conv_clamp, "use_noise": config.use_noise}
        self.input: SynthesisInput | None = None
        self.conv0: ModulatedLayer | None = None
        if in_channels:
            self.conv0 = ModulatedLayer(in_channels, out_channels, w_dim, resolution, up=2, **common)
        else:
            self.input = SynthesisInput(
                w_dim=w_dim, channels=out_channels, size=resolution, sampling_rate=resolution, bandwidth=2
            )
        self.convs1 = nn.ModuleList()
        for _ in range(config.num_res_blocks):
            self.convs1.append(
                ModulatedLayer(out_channels, out_channels, w_dim, resolution, act_gain=BRANCH_GAIN, **common)
            )
            self.convs1.append(
                ResidualLayer(
                    out_channels,
                    w_dim,
                    resolution,
                    norm_groups=config.norm_groups,
                    layer_scale_init=config.layer_scale_init,
                    act_gain=BRANCH_GAIN,
                    **common,
                )
            )
        self.attention: TextAttention | None = None
        if resolution in config.attention_resolutions:
            self.attention = TextAttention(out_channels, token_dim)
        self.torgb = ToRGB(out_channels, img_channels, w_dim, conv_clamp=config.conv_clamp)
        self.register_buffer("resample_filter", setup_filter(TAPS, separable=True), persistent=False)
        self.num_layers = 1 + 2 * config.num_res_blocks

    def noisy_layers(self) -> list[ModulatedLayer]:
        """Layers that take a noise image, in order."""
        first = [] if self.conv0 is None else [self.conv0]
        return first + [layer for layer in self.convs1 if isinstance(layer, ModulatedLayer)]

    def forward(
        self,
        x: Tensor | None,
        img: Tensor | None,
        ws: tuple[Tensor, ...],
        noise: Iterator[Tensor | None],
        dtype: torch.dtype = torch.float32,
        tokens: Text | None = None,
        *,
        recompute: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Features [N, in, r/2, r/2] (none in the first block) and image so far -> features and image at r.

        ws: one w [N, w_dim] per layer and a last one for ToRGB. noise: one noise image or none per layer.
        dtype: of the features; the image is float32. tokens: for a block that attends.
        recompute: every layer keeps its inputs alone for the backward pass.
        """
        run = recomputed if recompute else _once
        if self.conv0 is not None:
            assert x is not None
            x = run(self.conv0, x, ws[0], next(noise))
        else:
            assert self.input is not None
            x = self.input(ws[0]).to(dtype)
        for layer, w in zip(self.convs1, ws[1:-1], strict=True):
            x = run(layer, x, w, next(noise))
        if self.attention is not None:
            assert tokens is not None
            x = run(self.attention, x, tokens)
        rgb = run(self.torgb, x, ws[-1])
        return x, rgb if img is None else upsample2d(img, self.resample_filter) + rgb


def _once(layer: nn.Module, *inputs: Any) -> Tensor:
    result: Tensor = layer(*inputs)
    return result


class SynthesisT(nn.Module):
    """Styles [N, num_ws, w_dim] to images [N, img_channels, R, R]; blocks are named b8, b16, ... bR."""

    def __init__(self, config: GeneratorConfig, w_dim: int, token_dim: int = 0) -> None:
        """w_dim: numbers of w that layers read; with `mirrored`, w has one more. token_dim: width of the
        tokens that blocks of attention_resolutions attend to."""
        super().__init__()
        self.config = config
        self.style_dim, self.w_dim = w_dim, w_dim + config.stylegan_t.mirrored
        self.img_resolution = config.img_resolution
        self.recompute_from: int | None = None
        sizes = config.stylegan_t
        if sizes.num_res_blocks < 1:
            raise ValueError(
                f"num_res_blocks={sizes.num_res_blocks} leaves blocks without layers: use at least 1"
            )
        self.block_resolutions = block_resolutions(config.img_resolution)
        check_attention(config)
        if self.attends and token_dim < 1:
            raise ValueError(
                f"attention_resolutions={list(sizes.attention_resolutions)} needs the tokens of captions: "
                "use cond=text, or leave it empty"
            )
        below = 0
        for resolution in self.block_resolutions:
            channels = channels_at(resolution, sizes)
            block = SynthesisBlock(below, channels, w_dim, resolution, sizes, config.img_channels, token_dim)
            self.add_module(f"b{resolution}", block)
            below = channels

    @property
    def num_ws(self) -> int:
        """Styles consumed: one per layer, one for the last ToRGB; the others share the next block's first."""
        return sum(block.num_layers for block in self.blocks()) + 1

    def blocks(self) -> list[SynthesisBlock]:
        """All blocks, lowest resolution first."""
        return [self.get_submodule(f"b{resolution}") for resolution in self.block_resolutions]  # type: ignore[misc]

    def noisy_layers(self) -> list[ModulatedLayer]:
        """All layers that take a noise image, in the order of the forward pass."""
        return [layer for block in self.blocks() for layer in block.noisy_layers()]

    @property
    def attends(self) -> bool:
        """Whether blocks attend to tokens."""
        return bool(self.config.stylegan_t.attention_resolutions)

    def last_layers(self) -> list[int]:
        """Of each block, the number of the style that its last layer takes, ToRGB aside."""
        ends, start = [], 0
        for block in self.blocks():
            start += block.num_layers
            ends.append(start - 1)
        return ends

    def forward(
        self,
        ws: Tensor,
        *,
        noise_mode: NoiseMode = "random",
        rng: torch.Generator | None = None,
        tokens: Text | None = None,
    ) -> Tensor:
        """ws [N, num_ws, w_dim] -> float32 images [N, img_channels, R, R], about [-1, 1], not limited to it.

        noise_mode: random draws noise from `rng`, const takes the stored noise images, none adds nothing.
        tokens: of the captions; needed where blocks attend to them, else unused. A blend has one share
        per block.
        """
        if tokens is None and self.attends:
            raise ValueError(
                "a network that attends to tokens was called without them: pass a Conditioning with tokens"
            )
        if ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(
                f"styles of shape {tuple(ws.shape)} were given: pass ws [N, {self.num_ws}, {self.w_dim}]"
            )
        noise = self._noise(noise_mode, len(ws), ws.device, rng)
        turned = self.turned(ws)
        styles = ws[..., : self.style_dim].unbind(dim=1)
        dtype = compute_dtype(ws)
        x: Tensor | None = None
        img: Tensor | None = None
        start = 0
        with full_precision(ws.device):  # maps alone carry half precision, not styles and images
            for number, (resolution, block) in enumerate(
                zip(self.block_resolutions, self.blocks(), strict=True)
            ):
                part = styles[start : start + block.num_layers + 1]
                recompute = self.recompute_from is not None and resolution >= self.recompute_from
                words = _tokens_of_block(tokens, number)
                x, img = block(x, img, part, noise, dtype, words, recompute=recompute)
                start += block.num_layers
        assert img is not None
        return img if turned is None else torch.where(turned[:, None, None, None], img.flip(3), img)

    def turned(self, ws: Tensor) -> Tensor | None:
        """Whether the picture of styles ws [N, num_ws, w_dim] is mirrored, bool [N]; the first w says so.
        None for a generator that mirrors none."""
        return ws[:, 0, -1] < 0 if self.config.stylegan_t.mirrored else None

    def draw_noise(self, batch: int, device: torch.device, rng: torch.Generator | None) -> list[Tensor]:
        """Fresh N(0, 1) noise images [batch, 1, r, r] of all noisy layers in order, from one draw.

        The one place where synthesis draws random numbers: replace it to replay recorded noise.
        """
        sizes = [layer.resolution for layer in self.noisy_layers()]
        source = device if rng is None else rng.device
        flat = torch.randn(sum(batch * size * size for size in sizes), generator=rng, device=source)
        flat = flat.to(device, non_blocking=True)
        pieces = flat.split([batch * size * size for size in sizes])
        return [piece.view(batch, 1, size, size) for piece, size in zip(pieces, sizes, strict=True)]

    def _noise(
        self, mode: NoiseMode, batch: int, device: torch.device, rng: torch.Generator | None
    ) -> Iterator[Tensor | None]:
        if not self.config.stylegan_t.use_noise:
            return repeat(None)
        if mode == "random":
            return iter(self.draw_noise(batch, device, rng))
        if mode == "const":
            return iter([layer.noise_const for layer in self.noisy_layers()])
        if mode == "none":
            return repeat(None)
        raise ValueError(f"noise_mode {mode!r} is unknown: use random, const or none")


def _tokens_of_block(tokens: Text | None, number: int) -> Text | None:
    """Tokens for one block: a blend with the share of this block alone."""
    return tokens._replace(share=tokens.share[:, number]) if isinstance(tokens, TextBlend) else tokens


def check_attention(config: GeneratorConfig) -> None:
    """ValueError where a block that shall attend to tokens is missing."""
    asked, there = config.stylegan_t.attention_resolutions, block_resolutions(config.img_resolution)
    missing = [resolution for resolution in asked if resolution not in there]
    if missing:
        raise ValueError(
            f"attention_resolutions={list(asked)} names blocks of {missing} px, which a generator of "
            f"{config.img_resolution} px lacks: choose from {list(there)}"
        )


def block_resolutions(img_resolution: int) -> tuple[int, ...]:
    """Resolutions of all blocks, 8 to img_resolution."""
    if img_resolution < FIRST_RESOLUTION or img_resolution & (img_resolution - 1):
        raise ValueError(
            f"img_resolution={img_resolution} is not possible: use a power of two from {FIRST_RESOLUTION} up"
        )
    first, last = int(math.log2(FIRST_RESOLUTION)), int(math.log2(img_resolution))
    return tuple(2**power for power in range(first, last + 1))


def channels_at(resolution: int, sizes: StyleGANTConfig) -> int:
    """Feature maps of the block of this resolution."""
    channels = min(sizes.channel_base // resolution, sizes.channel_max)
    if channels < 1:
        raise ValueError(
            f"channel_base={sizes.channel_base} leaves no channels at {resolution} px: "
            f"use at least {resolution}"
        )
    return channels
