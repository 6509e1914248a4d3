"""Networks that metrics look through, by name, with the files that their weights come from."""

from __future__ import annotations

import difflib
from pathlib import Path

from sgxl_t.metrics.features.base import Extractor
from sgxl_t.metrics.features.known import KNOWN, REFERENCE_SCHEMES, KnownExtractor
from sgxl_t.networks.weights.missing import MissingWeightsError

EXTRACTOR_NAMES = tuple(KNOWN)


def load_extractor(name: str, *, weights: str | Path | None = None, sha256: str | None = None) -> Extractor:
    """The extractor of this name, frozen, on the CPU in float32; `.to(device)` moves it.

    name: one of EXTRACTOR_NAMES, or a network by reference (timm:NAME, open_clip:MODEL/TAG, local:FOLDER,
    random:NAME) whose one output is `pooled`. weights: a file (safetensors, or a PyTorch state dict) or a
    URL, instead of the file of `KNOWN[name].file` in the cache's weights folder. sha256: 64 hex digits the
    file must have; a URL needs them here or at its end, as #sha256=HEX.
    ValueError in one sentence for unknown names, files with the wrong hash, and wrong keys or shapes;
    MissingWeightsError where the weights cannot be had, saying where they come from and where they go.
    """
    scheme = name.partition(":")[0]
    if name not in KNOWN and scheme not in REFERENCE_SCHEMES:
        close = difflib.get_close_matches(name, EXTRACTOR_NAMES, n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else f"use {', '.join(EXTRACTOR_NAMES)}"
        raise ValueError(
            f"there is no extractor {name!r}: {hint} or timm:NAME, open_clip:MODEL/TAG, local:FOLDER"
        )
    # torchvision, timm and open_clip take seconds to import; who only asks for names need not wait.
    from sgxl_t.metrics.features.registry import build

    return build(name, None if weights is None else str(weights), sha256)


__all__ = [
    "EXTRACTOR_NAMES",
    "KNOWN",
    "Extractor",
    "KnownExtractor",
    "MissingWeightsError",
    "load_extractor",
]
