"""From the name of an extractor to the extractor."""

from __future__ import annotations

from collections.abc import Callable

from sgxl_t.metrics.features.base import Extractor
from sgxl_t.metrics.features.clip import load_clip_extractor
from sgxl_t.metrics.features.contrast import load_contrast
from sgxl_t.metrics.features.dinov2 import load_dinov2
from sgxl_t.metrics.features.inception import load_inception
from sgxl_t.metrics.features.known import KNOWN
from sgxl_t.metrics.features.networks import NetworkExtractor
from sgxl_t.metrics.features.vgg16 import load_vgg16
from sgxl_t.metrics.features.weights import WeightsFile, find_weights

Loader = Callable[[str, WeightsFile | None], Extractor]
LOADERS: dict[str, Loader] = {
    "contrast": load_contrast,
    "inception": load_inception,
    "inception_clean": load_inception,
    "rinception": load_inception,
    "inception_hash": load_inception,
    "vgg16": load_vgg16,
    "clip_vit_b32": load_clip_extractor,
    "clip_vit_l14_datacomp": load_clip_extractor,
    "clip_vit_l14_336": load_clip_extractor,
    "dinov2": load_dinov2,
}
"""Every name of KNOWN with what builds it from its name and its weights file, or none."""


def build(name: str, weights: str | None, sha256: str | None) -> Extractor:
    """The frozen extractor, see `load_extractor`; weights is a path or URL. ValueError for what cannot be."""
    named = name in LOADERS and bool(KNOWN[name].file)
    if not named and (weights or sha256):
        raise ValueError(f"{name} takes no weights file: leave weights and sha256 out")
    if name not in LOADERS:
        return NetworkExtractor(name).freeze()
    source = find_weights(name, weights, sha256) if named else None
    return LOADERS[name](name, source).freeze()
