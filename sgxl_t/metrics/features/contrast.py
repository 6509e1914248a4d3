"""Where pictures are flat and where they have edges, at every scale: features that need no weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.metrics.features.base import Extractor
from sgxl_t.metrics.features.known import (
    CONTRAST_LAYOUT,
    CONTRAST_MAPS,
    CONTRAST_OCTAVES,
    CONTRAST_SCALES,
    KNOWN,
)
from sgxl_t.metrics.features.weights import WeightsFile

SMALLEST = 4
"""Side below which a picture is not halved further."""
FIRST = 2 / 255
"""Contrast of the first octave, a step that nobody sees; the last begins at half of the range."""
SHARE_POWER = 0.8
"""Shares are raised to it: the few pixels of sharp edges would hardly count beside the many of flat areas."""
LAYOUT_WEIGHT = 0.5
"""Colours differ by more than shares do; so weighted, neither hides the other."""


class ContrastExtractor(Extractor):
    """Shares of the pixels by local contrast, at six scales, and the colours of a 4 x 4 thumbnail.

    At every scale (the side halved by averaging, down to 4 px) four maps are taken: the length of the
    brightness gradient, and the size of the Laplacian of brightness and of two colour differences. Their
    values fall into seven octaves from 2 to 128 of 255, of which the shares of the pixels are the features:
    flat areas, edges and grain lie in different ones. Scales that a small picture does not have are zero.

    Statistics of filter responses at several scales describe textures (Heeger and Bergen 1995; Portilla and
    Simoncelli 2000). Nothing is learnt, so that numbers compare between runs.
    """

    gradient: Tensor
    laplacian: Tensor
    opponent: Tensor

    def __init__(self) -> None:
        known = KNOWN["contrast"]
        super().__init__("contrast", known.outputs, known.preprocessing)
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
        second = torch.tensor([[-1.0, -2.0, -1.0], [-2.0, 12.0, -2.0], [-1.0, -2.0, -1.0]]) / 8
        self.register_buffer("gradient", torch.stack([across, across.T])[:, None])
        self.register_buffer("laplacian", second[None, None])
        brightness, colours = [0.299, 0.587, 0.114], [[0.5, -0.5, 0.0], [0.25, 0.25, -0.5]]
        self.register_buffer("opponent", torch.tensor([brightness, *colours]))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """images uint8 [N, 3, H, W] -> shares float32 [N, 219], each in [0, 1], and colours in [-.5, 1]."""
        x = torch.einsum("oc,nchw->nohw", self.opponent, images.float() / 255)
        scales = [x]
        while len(scales) < CONTRAST_SCALES and min(scales[-1].shape[-2:]) >= 2 * SMALLEST:
            scales.append(F.avg_pool2d(scales[-1], 2))
        shares = torch.cat([_shares(self._maps(scale)) for scale in scales], dim=1).pow(SHARE_POWER)
        missing = (CONTRAST_SCALES - len(scales)) * CONTRAST_MAPS * CONTRAST_OCTAVES
        layout = [F.adaptive_avg_pool2d(x, side).flatten(1) for side in (CONTRAST_LAYOUT, 1)]
        coloured = LAYOUT_WEIGHT * torch.cat(layout, dim=1)
        return {"shares": torch.cat([F.pad(shares, (0, missing)), coloured], dim=1)}

    def _maps(self, x: Tensor) -> Tensor:
        """x [N, 3, H, W] in opponent colours -> sizes of local contrast [N, 4, H * W], steps of [0, 1]."""
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        slopes = F.conv2d(padded[:, :1], self.gradient).square().sum(1, keepdim=True).sqrt()
        curved = F.conv2d(padded, self.laplacian.expand(3, 1, 3, 3), groups=3).abs()
        return torch.cat([slopes, curved], dim=1).flatten(2)


def _shares(sizes: Tensor) -> Tensor:
    """sizes [N, K, P], not negative -> shares of the octaves [N, K * 7], linear between their centres."""
    place = torch.log2(sizes.clamp(min=1e-9) / FIRST).clamp(0, CONTRAST_OCTAVES - 1)
    low = place.floor()
    shares = sizes.new_zeros(*sizes.shape[:2], CONTRAST_OCTAVES + 1)
    shares.scatter_add_(2, low.long(), 1 - (place - low))
    shares.scatter_add_(2, low.long() + 1, place - low)
    return (shares[..., :CONTRAST_OCTAVES] / sizes.shape[2]).flatten(1)


def load_contrast(name: str, source: WeightsFile | None) -> Extractor:
    """The extractor; it has no weights."""
    return ContrastExtractor()
