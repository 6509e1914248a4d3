"""How far a generated picture is from a photograph: pixels at several scales, and features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.metrics.distances.lpips import load_lpips
from sgxl_t.metrics.distances.map_distance import MapDistance
from sgxl_t.networks.frozen import load_feature_network
from sgxl_t.networks.weights.missing import MissingWeightsError
from sgxl_t.ops.images import as_rgb, to_uint8

WITHOUT_WEIGHTS = "random:small_cnn"
"""Network of the feature loss where LPIPS has no weights here. Its weights are random but always the same;
edges and colours at four scales need no training."""

LARGEST = 256
"""Side to which features see larger pictures reduced (StyleGAN2's projection and all that followed)."""

SMALLEST = 4
"""Side of the coarsest scale of the pixel loss."""

PEAK = 255.0


@dataclass(frozen=True)
class Features:
    """A perceptual distance with a name.

    embed: images [N, C, R, R] in [-1, 1] to float32 [N, D]; squared distances of these are the loss.
    """

    name: str
    embed: Callable[[Tensor], Tensor]

    def distance(self, images: Tensor, embedded: Tensor) -> Tensor:
        """Distances [N] of images from what was embedded before."""
        return (self.embed(images) - embedded).square().sum(dim=1)


def open_features(reference: str | None, device: torch.device) -> Features:
    """LPIPS where its weights lie in the cache, else a random network, for None; or what is named.

    reference: lpips, or local:FOLDER, random:NAME, timm:NAME, open_clip:MODEL/TAG. ValueError for others.
    """
    if reference in (None, "lpips"):
        try:
            network = load_lpips().to(device)
            return Features(f"lpips ({network.weight_hash})", lambda x: network.embed(_for_lpips(x)))
        except MissingWeightsError:
            if reference is not None:
                raise
    chosen = reference or WITHOUT_WEIGHTS
    maps = MapDistance(load_feature_network(chosen).to(device))
    return Features(chosen, lambda x: maps.embed(_bytes(x)))


def pixel_loss(images: Tensor, photos: Tensor) -> Tensor:
    """Mean squared differences [N] of images and photos [N, C, R, R] in [-1, 1], summed over halved scales.

    Coarse scales say where colours belong while nothing fits at the finest yet.
    """
    parts = [one.square().mean(dim=(1, 2, 3)) for one in _scales(images - photos)]
    return torch.stack(parts).sum(dim=0)


def random_sums(images: Tensor, rng: torch.Generator) -> Tensor:
    """Sums [N] of the pixels of all scales with random weights, whose mean squares are `pixel_loss`.

    Their gradients tell how far the loss bends in which direction, at the price of one pass.
    """
    parts = []
    for one in _scales(images):
        weights = torch.randn(one.shape, generator=rng).to(one)
        parts.append((one * weights).sum(dim=(1, 2, 3)) / one[0].numel() ** 0.5)
    return torch.stack(parts).sum(dim=0)


def _scales(images: Tensor) -> Iterator[Tensor]:
    """images [N, C, R, R] and their halves, down to `SMALLEST`; of smaller ones nothing but themselves."""
    yield images
    while min(images.shape[-2:]) >= 2 * SMALLEST:
        images = F.avg_pool2d(images, 2)
        yield images


@torch.no_grad()
def psnr(images: Tensor, photos: Tensor) -> Tensor:
    """Peak signal-to-noise ratios [N] in dB of images as their files hold them, 8 bits, against photographs.

    images, photos: [N, C, R, R] in [-1, 1]. Equal pictures give 99 dB.
    """
    error = (to_uint8(images).float() - to_uint8(photos).float()).square().mean(dim=(1, 2, 3))
    return (10 * torch.log10(PEAK**2 / error.clamp(min=1e-12))).clamp(max=99.0)


def noise_loss(noises: list[Tensor]) -> Tensor:
    """How far noise images [r, r] are from noise: correlations with neighbours, at all scales from 8 px up.

    Regularisation of noise inputs as StyleGAN2's projection has it (Karras et al. 2020, appendix D).
    """
    total = torch.zeros((), device=noises[0].device)
    for noise in noises:
        x = noise[None, None]
        while True:
            for axis in (2, 3):
                total = total + (x * x.roll(1, axis)).mean().square()
            if x.shape[-1] <= 8:
                break
            x = F.avg_pool2d(x, 2) * 2  # keeps the variance of independent values
    return total


def _reduced(images: Tensor) -> Tensor:
    factor = -(-images.shape[-1] // LARGEST)
    return images if factor <= 1 else F.avg_pool2d(images, factor)


def _bytes(images: Tensor) -> Tensor:
    """RGB in [0, 255], as distances of images take it."""
    return as_rgb(_reduced(images)).add(1).mul(127.5)


def _for_lpips(images: Tensor) -> Tensor:
    """The same; pictures below LPIPS's 16 px are enlarged."""
    x = _bytes(images)
    return x if x.shape[-1] >= 16 else F.interpolate(x, size=(16, 16), mode="bilinear", align_corners=False)
