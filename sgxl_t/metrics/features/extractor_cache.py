"""The networks behind a set of metrics, each loaded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sgxl_t.metrics.collect import FeatureFunction
from sgxl_t.metrics.distances.clip_score import ClipScore
from sgxl_t.metrics.distances.lpips import Lpips, load_lpips
from sgxl_t.metrics.distances.map_distance import MapDistance
from sgxl_t.metrics.features import KNOWN, Extractor, load_extractor
from sgxl_t.metrics.features.base import state_hash
from sgxl_t.metrics.features.networks import NetworkExtractor
from sgxl_t.metrics.features.weights import find_weights
from sgxl_t.metrics.protocol import MetricSpec, other_weights

COSINE = "cosine"
"""Output of a CLIP that compares images with their captions."""
CLIP = "clip"
"""Name in --weights for the CLIP of CLIP scores, where it is one of open_clip's."""
CaptionsOf = Callable[[Sequence[int]], Sequence[str]]
"""Sample indices to the captions of these images."""
PUBLISHED = ("inception", "inception_clean", "vgg16")
"""Extractors whose metrics (fid, is, pr ...) are called so with the published weights only."""


@dataclass(frozen=True)
class ExtractorInfo:
    """What a result states about its extractor; empty where there is none."""

    extractor: str = ""
    extractor_hash: str = ""
    preprocessing: str = ""


class ExtractorCache:
    """Extractors by name on one device. weights, sha256: file or URL, and its hash, by extractor name."""

    def __init__(
        self,
        *,
        device: torch.device | str = "cpu",
        weights: Mapping[str, str | Path] | None = None,
        sha256: Mapping[str, str] | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.weights, self.sha256 = dict(weights or {}), dict(sha256 or {})
        self._extractors: dict[str, Extractor] = {}
        self._clips: dict[str, ClipScore] = {}
        self._clip_hashes: dict[str, str] = {}
        self._lpips: Lpips | None = None

    def named_by_weights(self, spec: MetricSpec) -> MetricSpec:
        """The spec, renamed where its extractor has other weights than the published ones: fid becomes
        fd_inception. Reads the weights file for its hash and loads nothing."""
        if spec.extractor not in PUBLISHED:
            return spec
        named, sha256 = self._file(spec.extractor)
        if named is None:
            return spec
        found = find_weights(spec.extractor, str(named), sha256)
        published = found is not None and found.sha256 == KNOWN[spec.extractor].sha256
        return spec if published else other_weights(spec)

    def extractor(self, name: str) -> Extractor:
        """Loaded on the first call; ValueError, in one sentence, where its weights cannot be had."""
        if name not in self._extractors:
            weights, sha256 = self._file(name)
            self._extractors[name] = load_extractor(name, weights=weights, sha256=sha256).to(self.device)
        return self._extractors[name]

    def _file(self, name: str) -> tuple[str | Path | None, str | None]:
        """The file named for an extractor and its hash; both kinds of resizing share the Inception's."""
        named = "inception" if name == "inception_clean" and name not in self.weights else name
        return self.weights.get(named), self.sha256.get(named)

    def clip(self, reference: str) -> ClipScore:
        """The CLIP that compares images with captions."""
        if reference not in self._clips:
            weights, sha256 = self._file(CLIP) if reference.startswith("open_clip:") else (None, None)
            scorer = ClipScore(reference, weights=weights, sha256=sha256)
            scorer.clip.to(self.device)
            self._clips[reference] = scorer
            self._clip_hashes[reference] = state_hash(scorer.clip.state_dict())
        return self._clips[reference]

    def image_distance(self, spec: MetricSpec) -> Lpips | MapDistance:
        """The image distance of path lengths: LPIPS, or that of the network which the metric names."""
        if spec.extractor == "lpips":
            return self.lpips()
        network = self.extractor(spec.extractor)
        assert isinstance(network, NetworkExtractor), "references alone are networks with maps"
        return MapDistance(network.network)

    def lpips(self) -> Lpips:
        """The published image distance; ValueError, with the way out, where its weights are missing."""
        if self._lpips is None:
            self._lpips = load_lpips(self.weights.get("lpips")).to(self.device)
        return self._lpips

    def info(self, spec: MetricSpec) -> ExtractorInfo:
        """Name, hash and preprocessing of the extractor of a metric; loads it."""
        if spec.reduction == "clip_score":
            scorer = self.clip(spec.extractor)
            return ExtractorInfo(spec.extractor, self._clip_hashes[spec.extractor], scorer.preprocessing)
        if spec.reduction == "ppl" and spec.extractor == "lpips":
            return ExtractorInfo("lpips", self.lpips().weight_hash, "box mean to about 256, [0, 255]")
        if not spec.extractor:
            return ExtractorInfo()
        found = self.extractor(spec.extractor)
        maps = "box mean to about 256, unit maps" if spec.reduction == "ppl" else found.preprocessing
        return ExtractorInfo(found.name, found.weight_hash, maps)

    def function(self, spec: MetricSpec, captions: CaptionsOf | None = None) -> FeatureFunction:
        """From images to the features of a metric. captions: by sample index, for CLIP scores."""
        if spec.reduction == "clip_score":
            scorer = self.clip(spec.extractor)

            def cosines(images: Tensor, indices: Sequence[int]) -> dict[str, Tensor]:
                assert captions is not None
                return {COSINE: scorer.cosines(images, captions(indices))[:, None]}

            return FeatureFunction(cosines, {COSINE: 1})
        network = self.extractor(spec.extractor)
        return FeatureFunction(lambda images, _: network(images.to(self.device)), network.outputs)
