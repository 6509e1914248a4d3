"""StyleGAN-T's discriminator: frozen transformer tokens, 1-D heads (Sauer et al. 2023, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.condition_input import condition_vectors, make_class_table
from sgxl_t.networks.conditioning import Conditioning, as_conditioning
from sgxl_t.networks.configs import ConditionSpec, DinoConfig, DiscriminatorConfig
from sgxl_t.networks.discriminators.features import FrozenFeatures
from sgxl_t.networks.discriminators.slopes import Slopes, logits_and_slopes
from sgxl_t.networks.discriminators.spectral import SpectralConv1d
from sgxl_t.networks.layers import FullyConnected, full_precision
from sgxl_t.ops.diff_augment import diff_augment

SLOPE = 0.2
"""Slope of the heads' leaky ReLU; unlike the generator's it has no gain."""


class TokenFeatures(FrozenFeatures):
    """Images to token maps of one frozen transformer: augment, crop or resize, read out. Tokens reach the
    heads as they are, so that there is nothing to measure or to keep."""

    def __init__(self, network: FeatureNetwork, config: DiscriminatorConfig, img_resolution: int) -> None:
        """network: a vision transformer. img_resolution: of the images that the generator makes."""
        super().__init__()
        if network.kind != "vit":
            raise ValueError(
                f"features {network.reference} is no vision transformer, which the dino discriminator needs: "
                "name a ViT or use discriminator family projected"
            )
        self.network = network.requires_grad_(False).eval()
        self.taps = config.dino.taps or tuple(dict.fromkeys(network.backbone.default_taps))
        network.backbone.check_taps(self.taps)
        network.precision = config.precision
        network.trim(self.taps)
        self.policy = config.diff_augment
        self.crop_probability = config.dino.crop_probability
        self.crop_per_sample = config.dino.crop_per_sample
        self.img_resolution = img_resolution
        self.input_size = _input_side(network, config.dino.input_size, img_resolution)
        self.channels = network.channels[-1]
        self.n_heads = len(self.taps) + 1

    def train(self, mode: bool = True) -> TokenFeatures:
        """Stays in eval mode whatever is asked: the features must not move."""
        return super().train(False)

    def forward(self, images: Tensor, rng: torch.Generator | None = None) -> list[list[Tensor]]:
        """images [N, 3, R, R] in [-1, 1] -> one list of maps [N, C, L]: per tap, embedded patches last."""
        images01 = (self.augment(images, rng) + 1) / 2
        resolution = images01.shape[-1]
        if self.crop_per_sample:
            images01 = self.view_each(images01, [self.draw_crop(resolution, rng) for _ in images01])
        else:
            images01 = self.view(images01, self.draw_crop(resolution, rng))
        return [[readout(tokens) for tokens in self.network.tokens(images01, self.taps)]]

    def view(self, images01: Tensor, corner: tuple[int, int] | None) -> Tensor:
        """What the network sees of images [N, 3, R, R]: the window of its own size from `corner` (top, left)
        on, else the whole images, resized."""
        if corner is None:
            return area_resize(images01, self.input_size)
        top, left = corner
        return images01[:, :, top : top + self.input_size, left : left + self.input_size]

    def view_each(self, images01: Tensor, corners: Sequence[tuple[int, int] | None]) -> Tensor:
        """[N, 3, H, W], like `view` with one corner per image; the whole images are resized together."""
        whole = [index for index, corner in enumerate(corners) if corner is None]
        resized = iter(area_resize(images01[whole], self.input_size)) if whole else iter(())
        views = [
            next(resized) if corner is None else self.view(image[None], corner)[0]
            for image, corner in zip(images01, corners, strict=True)
        ]
        return torch.stack(views)

    def augment(self, images: Tensor, rng: torch.Generator | None) -> Tensor:
        """Differentiable augmentation of images [N, 3, H, W], drawn per sample from `rng`; same shape."""
        return diff_augment(images, self.policy, generator=rng) if self.policy else images

    def draw_crop(self, resolution: int, rng: torch.Generator | None) -> tuple[int, int] | None:
        """Top and left of one native-size window; none when images are resized whole.

        Only images larger than the network's input are cropped, with the configured probability.
        """
        room = resolution - self.input_size
        if room <= 0 or self.crop_probability <= 0:
            return None
        device = torch.device("cpu") if rng is None else rng.device
        if torch.rand((), generator=rng, device=device).item() >= self.crop_probability:
            return None
        top, left = torch.randint(room + 1, (2,), generator=rng, device=device).tolist()
        return top, left


def _input_side(network: FeatureNetwork, asked: int | None, img_resolution: int) -> int:
    """Side of the images that the transformer gets; ValueError where it cannot take the side asked for."""
    side = (network.input_size or img_resolution) if asked is None else asked
    if network.fixed_size and network.input_size and side != network.input_size:
        raise ValueError(
            f"discriminator.dino.input_size={side}: {network.reference} takes images of {network.input_size} "
            "pixels alone, leave it out"
        )
    patch = network.backbone.patch_size
    if side < 1 or side % patch:
        nearest = max(round(side / patch), 1) * patch
        raise ValueError(
            f"discriminator.dino.input_size={side} does not divide into patches of {patch} pixels, the size "
            f"of {network.reference}: use a multiple such as {nearest}"
        )
    return side


def readout(tokens: Tensor) -> Tensor:
    """Tokens [N, 1 + L, C], class token first -> map [N, C, L]; the class token joins every patch token."""
    return (tokens[:, 1:] + tokens[:, :1]).transpose(1, 2)


def area_resize(images: Tensor, size: int) -> Tensor:
    """images [N, C, H, W] -> [N, C, size, size], float32: means over the input pixels each window touches.

    Equals adaptive average pooling, for growing as for shrinking, as two matrix products: pooling's own
    backward pass is slow on a CPU and not deterministic on a GPU.
    """
    height, width = images.shape[-2:]
    if height == size and width == size:
        return images
    with full_precision(images.device):
        x = images.float()
        rows = _area_matrix(height, size).to(x.device)
        columns = _area_matrix(width, size).to(x.device)
        return rows @ (x @ columns.t())


@lru_cache(maxsize=16)
def _area_matrix(old: int, new: int) -> Tensor:
    """Matrix [new, old] that averages windows floor(i * old / new) to ceil((i + 1) * old / new)."""
    with torch.inference_mode(False):  # kept for later calls, which may want gradients
        matrix = torch.zeros(new, old, device="cpu")
        for index in range(new):
            start, stop = index * old // new, -(-(index + 1) * old // new)
            matrix[index, start:stop] = 1 / (stop - start)
        return matrix


class LocalBatchNorm(nn.Module):
    """Batch normalisation over small groups of consecutive samples, without running statistics.

    N samples form ceil(N / group) groups as equal as can be: sizes differ by at most one, larger ones first.
    Training and eval mode compute the same; statistics never leave the process.
    """

    def __init__(self, channels: int, group: int = 8, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.group = group
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x [N, C, L], any N >= 1 -> same shape; mean and biased variance per group and channel."""
        parts = x.tensor_split(math.ceil(len(x) / self.group))
        done = [
            F.batch_norm(part, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for part in parts
        ]
        return done[0] if len(done) == 1 else torch.cat(done)


def _conv_block(channels: int, kernel: int, group: int) -> nn.Sequential:
    """Spectrally normalised circular convolution, local batch norm, leaky ReLU."""
    conv = SpectralConv1d(channels, channels, kernel, padding=kernel // 2, padding_mode="circular")
    return nn.Sequential(conv, LocalBatchNorm(channels, group), nn.LeakyReLU(SLOPE))


class ResidualBlock(nn.Module):
    """(fn(x) + x) / sqrt(2)."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that fn keeps."""
        return (self.fn(x) + x) * math.sqrt(0.5)


class TokenHead(nn.Module):
    """One logit per token from one token map, projected on the condition vector where there is one."""

    def __init__(self, channels: int, c_dim: int, config: DinoConfig) -> None:
        """c_dim: width of the condition vectors; 0 when unconditional."""
        super().__init__()
        if config.kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size={config.kernel_size} would change the number of tokens: use an odd one"
            )
        self.main = nn.Sequential(
            _conv_block(channels, 1, config.batch_group),
            ResidualBlock(_conv_block(channels, config.kernel_size, config.batch_group)),
        )
        self.cmapper = FullyConnected(c_dim, config.cmap_dim) if c_dim else None
        self.cls = SpectralConv1d(channels, config.cmap_dim if c_dim else 1, 1)

    def forward(self, x: Tensor, vectors: Tensor | None) -> Tensor:
        """x [N, C, L], vectors [K * N, c_dim] or none -> logits [K * N, L], float32: K readings of a pass."""
        out = self.cls(self.main(x)).float()
        if self.cmapper is None:
            return out.squeeze(1)
        assert vectors is not None
        direction = self.cmapper(vectors)
        if len(direction) != len(out):
            out = out.repeat(len(direction) // len(out), 1, 1)
        return torch.bmm(direction.unsqueeze(1), out).squeeze(1) / math.sqrt(out.shape[1])


class DinoHeads(nn.Module):
    """All heads of the discriminator, one per token map: the only trainable part of it."""

    def __init__(
        self, config: DiscriminatorConfig, condition: ConditionSpec, channels: int, n_heads: int
    ) -> None:
        """channels: width of the tokens. n_heads: token maps per image (taps and the embedded patches)."""
        super().__init__()
        self.condition = condition
        self.embed = make_class_table(condition)
        c_dim = 0 if condition.kind == "none" else condition.dim
        self.heads = nn.ModuleDict(
            {str(index): TokenHead(channels, c_dim, config.dino) for index in range(n_heads)}
        )

    def forward(
        self,
        features: list[list[Tensor]],
        cond: Conditioning | Tensor | None = None,
        *,
        slopes: bool = False,
    ) -> list[Tensor] | tuple[list[Tensor], Slopes]:
        """features of TokenFeatures -> [logits [N, n_heads * L]], unbounded float32.

        cond: its `target` is projected on; a bare tensor or None stands for the target (see ConditionSpec).

        Batch statistics tie the samples of a call together: real and generated images go through separately.
        K targets per image, K blocks of N, give K * N rows of logits from one pass.
        slopes: also return how the images' scores change with the features (see `logits_and_slopes`).
        """
        if slopes:
            return logits_and_slopes(self, features, cond)
        (maps,) = features
        if len(maps) != len(self.heads):
            raise ValueError(
                f"{len(maps)} token maps were given to {len(self.heads)} heads: pass one map per head"
            )
        vectors = condition_vectors(self.condition, self.embed, as_conditioning(cond).target)
        logits = [head(x, vectors) for head, x in zip(self.heads.values(), maps, strict=True)]
        return [torch.cat(logits, dim=1)]
