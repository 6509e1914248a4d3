"""Trainable half of the projected discriminator: one convolutional head per network and level.

Sauer et al. 2021, "Projected GANs Converge Faster", section 3.2; Sauer et al. 2022, "StyleGAN-XL", section
3.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sgxl_t.networks.condition_input import condition_vectors, make_class_table
from sgxl_t.networks.conditioning import Conditioning, as_conditioning
from sgxl_t.networks.configs import ConditionSpec, DiscriminatorConfig
from sgxl_t.networks.discriminators.slopes import Slopes, logits_and_slopes
from sgxl_t.networks.discriminators.spectral import SpectralConv2d
from sgxl_t.networks.layers import FullyConnected

WIDTHS = {4: 512, 8: 512, 16: 256, 32: 128, 64: 64, 128: 64, 256: 32, 512: 16, 1024: 8}
"""Channels of a head by the side of its map."""
SLOPE = 0.2
"""Slope of the leaky ReLU; unlike the generator's it has no gain."""
KERNEL = 4
"""Side of all kernels of a head."""


class DownBlock(nn.Module):
    """Spectrally normalised 4x4 convolution of stride 2, batch norm, leaky ReLU: half the side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            SpectralConv2d(in_channels, out_channels, KERNEL, stride=2, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(SLOPE, inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H // 2, W // 2]."""
        return self.main(x)


class PatchDownBlock(nn.Module):
    """Down block, then a pointwise convolution, batch norm, leaky ReLU (Projected GAN's patch variant)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            DownBlock(in_channels, out_channels),
            SpectralConv2d(out_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(SLOPE, inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H // 2, W // 2]."""
        return self.main(x)


class ProjectedHead(nn.Module):
    """One level's logits: down blocks to `end_size`, then a 4x4 convolution, projected on the condition.

    The condition (Miyato & Koyama 2018, "cGANs with Projection Discriminator") is a row of the head's own
    trainable class table `embed`, or a text feature; `embed_proj` brings it to the width of the last map.
    """

    def __init__(
        self,
        in_channels: int,
        start_size: int,
        condition: ConditionSpec,
        *,
        end_size: int = 8,
        width: int | None = None,
        cmap_dim: int = 64,
        unconditional: bool = False,
        patch: bool = False,
    ) -> None:
        """start_size, end_size: nominal sides, powers of two; the actual map may be smaller (112 for 128).

        A map that starts below end_size is padded up to it by the last convolution, so that all levels give
        equally many logits and weigh the same in their mean. width: inner channels; none takes `WIDTHS`.
        unconditional: add a logit of the image alone. patch: a pointwise convolution more per block.
        """
        super().__init__()
        self.condition = condition
        sizes = [start_size >> step for step in range(1 + max(int(math.log2(start_size / end_size)), 0))]
        channels = [in_channels, *(WIDTHS[max(size, 4)] if width is None else width for size in sizes[1:])]
        block = PatchDownBlock if patch else DownBlock
        blocks: list[nn.Module] = [block(a, b) for a, b in pairwise(channels)]
        out = 1 if condition.kind == "none" else cmap_dim
        padding = max(end_size - sizes[-1], 0) // 2
        last = SpectralConv2d(channels[-1], out, KERNEL, padding=padding, bias=False)
        if condition.kind == "none":
            self.main = nn.Sequential(*blocks, last)
            return
        self.main = nn.Sequential(*blocks)
        self.cls = last
        self.embed = make_class_table(condition)
        self.embed_proj = FullyConnected(condition.dim, cmap_dim, act="lrelu")
        self.alone = nn.Parameter(torch.randn(cmap_dim)) if unconditional else None

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x [N, in_channels, H, W], c as in ConditionSpec -> logits [N, 1, h, w], float32.

        c may hold K conditions per image, K blocks of N after each other: then logits are [K * N, 1, h, w],
        from one pass of the convolutions.
        """
        vectors = condition_vectors(self.condition, getattr(self, "embed", None), c)
        out = self.main(x) if vectors is None else self.cls(self.main(x))
        out = out.to(torch.promote_types(out.dtype, torch.float32))
        if vectors is None:
            return out
        direction = self.embed_proj(vectors)
        if self.alone is not None:  # one more direction, the same whatever the condition
            direction = direction + self.alone
        direction = direction[:, :, None, None]
        if len(direction) != len(out):
            out = out.repeat(len(direction) // len(out), 1, 1, 1)
        return (out * direction).sum(1, keepdim=True) / math.sqrt(out.shape[1])


class MultiScaleHeads(nn.Module):
    """The heads of one feature network, shallow to deep."""

    def __init__(
        self,
        config: DiscriminatorConfig,
        condition: ConditionSpec,
        channels: Sequence[int],
        sizes: Sequence[int],
    ) -> None:
        """channels, sizes: of the maps; sizes are actual sides."""
        super().__init__()
        projected = config.projected
        deepened = projected.proj_type == 2 and projected.final_upsample
        self.mini_discs = nn.ModuleList(
            ProjectedHead(
                cin,
                nominal_size(size, level, doubled=deepened),
                condition,
                end_size=projected.end_size,
                width=projected.head_width,
                cmap_dim=projected.cmap_dim,
                unconditional=projected.unconditional,
            )
            for level, (cin, size) in enumerate(zip(channels, sizes, strict=True))
        )

    def forward(self, maps: list[Tensor], c: Tensor | None = None) -> Tensor:
        """One map per head, c as in ConditionSpec -> logits [N, P], the heads' logits side by side."""
        return torch.cat(
            [head(x, c).flatten(1) for head, x in zip(self.mini_discs, maps, strict=True)], dim=1
        )


def nominal_size(size: int, level: int, *, doubled: bool) -> int:
    """Side a head is built for: the next power of two, at most the paper's 128, 64, 32, 16 by level.

    112, 56, 28, 14 (images of 224) count as 128, 64, 32, 16; maps of larger images keep the paper's depth and
    give more logits. Half of all that where levels are not upsampled after mixing (`doubled` false).
    """
    return min(2 ** math.ceil(math.log2(max(size, 1))), (128 if doubled else 64) >> level)


class ProjectedHeads(nn.Module):
    """All heads of the projected discriminator: everything about it that trains.

    Official names `discriminators.<network>.mini_discs...` are `networks.<index>.mini_discs...` here.
    """

    def __init__(
        self,
        config: DiscriminatorConfig,
        condition: ConditionSpec,
        level_channels: Sequence[Sequence[int]],
        level_sizes: Sequence[Sequence[int]],
    ) -> None:
        """level_channels, level_sizes: per network, of its four maps, as `ProjectedFeatures` gives them."""
        super().__init__()
        self.networks = nn.ModuleList(
            MultiScaleHeads(config, condition, channels, sizes)
            for channels, sizes in zip(level_channels, level_sizes, strict=True)
        )

    def forward(
        self,
        features: list[list[Tensor]],
        cond: Conditioning | Tensor | None = None,
        *,
        slopes: bool = False,
    ) -> list[Tensor] | tuple[list[Tensor], Slopes]:
        """features as ProjectedFeatures gives them -> per network logits [N, P].

        cond: its `target` is projected on; a bare tensor or None stands for the target (see ConditionSpec).
        Batch norm ties the samples of a call together, so real and generated images go through separately.
        K targets per image, K blocks of N, give [K * N, P]: several readings of one pass.
        slopes: also return how the images' scores change with the features (see `logits_and_slopes`).
        """
        if slopes:
            return logits_and_slopes(self, features, cond)
        if len(features) != len(self.networks):
            raise ValueError(
                f"features of {len(features)} networks were given to heads for {len(self.networks)}: "
                "pass those of the networks the heads were built for"
            )
        target = as_conditioning(cond).target
        return [heads(maps, target) for heads, maps in zip(self.networks, features, strict=True)]
