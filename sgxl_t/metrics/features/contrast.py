"""Where pictures are flat and where they have edges, at every scale: features that need no weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.metrics.features.base import Extractor
from sgxl_t.metrics.features.known import CONTRAST_LAYOUT, CONTRAST_OCTAVES, CONTRAST_SCALES, KNOWN
from sgxl_t.metrics.features.weights import WeightsFile

SMALLEST = 4
"""Side below which a picture is not halved further."""
FIRST = 2 / 255
"""Contrast of the first octave, a step that nobody sees; the last begins at half of the range."""
SHARE_POWER = 0.85
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
        parts, scale = [], x
        for number in range(CONTRAST_SCALES):
            if number:
                scale = F.avg_pool2d(scale, 2) if min(scale.shape[-2:]) >= 2 * SMALLEST else scale[..., :0, :0]
            parts.append(self._shares(scale))
        side = CONTRAST_LAYOUT
        layout = [F.adaptive_avg_pool2d(x, size).flatten(1) for size in (side, 1)]
        return {"shares": torch.cat([*parts, *(LAYOUT_WEIGHT * part for part in layout)], dim=1)}

    def _shares(self, x: Tensor) -> Tensor:
        """x [N, 3, H, W] in opponent colours -> [N, 4 * 7]; zeros for no pixels."""
        if x.numel() == 0:
            return x.new_zeros(len(x), 4 * CONTRAST_OCTAVES)
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        slopes = F.conv2d(padded[:, :1], self.gradient).square().sum(1, keepdim=True).sqrt()
        curved = F.conv2d(padded.flatten(0, 1)[:, None], self.laplacian).unflatten(0, x.shape[:2])[:, :, 0].abs()
        return _by_octave(torch.cat([slopes, curved], dim=1).flatten(2)).pow(SHARE_POWER).flatten(1)


def _by_octave(sizes: Tensor) -> Tensor:
    """sizes [N, K, P], not negative -> shares [N, K, 7] of the octaves, linear between their centres."""
    place = torch.log2(sizes.clamp(min=1e-9) / FIRST).clamp(0, CONTRAST_OCTAVES - 1)
    low = place.floor()
    shares = sizes.new_zeros(*sizes.shape[:2], CONTRAST_OCTAVES + 1)
    shares.scatter_add_(2, low.long(), 1 - (place - low))
    shares.scatter_add_(2, low.long() + 1, place - low)
    return shares[..., :CONTRAST_OCTAVES] / sizes.shape[2]


def load_contrast(name: str, source: WeightsFile | None) -> Extractor:
    """The extractor; it has no weights."""
    return ContrastExtractor()
