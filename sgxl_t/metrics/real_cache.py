"""The real images of a metric, and a cache of their features by content."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgxl_t.datasets.base import CONTENT_VERSION, ImageSource
from sgxl_t.files.arrays import open_arrays
from sgxl_t.files.content import short_hash
from sgxl_t.files.whole import whole_file
from sgxl_t.metrics.collect import FeatureRequest, GatheredFeatures
from sgxl_t.metrics.distances.feature_statistics import (
    MAX_WIDTH,
    METADATA,
    FeatureStatistics,
    read_metadata,
)
from sgxl_t.metrics.protocol import VERSION
from sgxl_t.ops.images import as_rgb

log = logging.getLogger(__name__)

SMALL_SET = 2000
"""Pictures below which chance moves a metric by much of what there is to see."""
ORDER_SEED = 0
"""Seed of the order of real images, so that a part of them is the same part in every result."""


class RealImages:
    """All images of a data set in one fixed random order, as stored: none mirrored, each counted once."""

    def __init__(self, source: ImageSource, reference: str) -> None:
        """reference: the name under which a person knows the data."""
        if source.mirror:
            raise ValueError("the real side of a metric is not mirrored: open the data without mirror")
        self.source, self.reference = source, reference
        self.fingerprint = source.fingerprint_of_numbered()
        if source.size != (source.resolution, source.resolution):
            self.fingerprint = short_hash(self.fingerprint, *source.size)
        if source.gray:
            self.fingerprint = short_hash(self.fingerprint, "gray")
        rng = torch.Generator().manual_seed(ORDER_SEED)
        self.order = torch.randperm(len(source), generator=rng).tolist()

    def __len__(self) -> int:
        return len(self.order)

    @property
    def warning(self) -> str:
        """What stands beside a number from few pictures; empty where there are enough."""
        if len(self) >= SMALL_SET:
            return ""
        return (
            f"{self.reference} has {len(self)} pictures: with fewer than {SMALL_SET:,} a number moves by "
            "chance, compare it at equal counts only and beside real pictures against real ones"
        )

    def count(self, limit: int | None) -> int:
        """Pictures that take part where at most `limit` are wanted; ValueError for fewer than two."""
        count = len(self) if limit is None else min(limit, len(self))
        if count < 2:
            raise ValueError(
                f"the data {self.reference} have {len(self)} pictures: a metric needs at least 2"
            )
        return count

    def images(self, indices: Sequence[int]) -> Tensor:
        """uint8 [n, 3, H, W]."""
        return as_rgb(torch.stack([self.source[self.order[index]].image for index in indices]))


class RealCache:
    """Features of real images in a folder, named by a hash of everything they depend on.

    Files appear whole or not at all. A damaged file is named in the log and made again.
    """

    def __init__(self, folder: Path | None) -> None:
        """folder: None keeps nothing."""
        self.folder = folder

    def facts(
        self, real: RealImages, request: FeatureRequest, extractor: Mapping[str, str]
    ) -> dict[str, Any]:
        """Everything that the features depend on. extractor: its name, hash and preprocessing."""
        return {
            "version": VERSION,
            "fingerprints": CONTENT_VERSION,
            "data": real.fingerprint,
            "size": list(real.source.size),
            "pictures": len(real),
            **extractor,
            "output": request.output,
            "kind": request.kind,
            "n": request.count,
        }

    def load(self, facts: Mapping[str, Any]) -> GatheredFeatures | None:
        """Statistics or rows, or None where they must be made."""
        if self.folder is None:
            return None
        path = self._path(facts)
        if not path.is_file():
            return None
        try:
            found: GatheredFeatures
            if facts["kind"] == "moments":
                found, stored = FeatureStatistics.load(path)
                count = found.n
            else:
                found, stored = _load_rows(path, facts["n"])
                count = len(found)
            if stored != dict(facts) or count != facts["n"]:
                raise ValueError("it belongs to other data")
        except (OSError, ValueError) as error:
            log.warning("the stored real side %s is damaged (%s) and is made again", path, error)
            return None
        return found

    def store(self, facts: Mapping[str, Any], features: GatheredFeatures) -> None:
        """Keeps features, unless they are not finite. On a full disk they are made again next time."""
        if self.folder is None:
            return
        path = self._path(facts)
        try:
            if isinstance(features, FeatureStatistics):
                if not features.nonfinite:
                    features.save(path, dict(facts))
            elif bool(torch.isfinite(features).all()):
                _save_rows(path, features, facts)
        except OSError as error:
            log.warning("the real side could not be stored in %s: %s", self.folder, error.strerror)

    def _path(self, facts: Mapping[str, Any]) -> Path:
        assert self.folder is not None
        digest = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.npz"


def _save_rows(path: Path, rows: Tensor, facts: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as aside, aside.open("xb") as file:
        about = np.asarray(json.dumps(dict(facts), sort_keys=True))
        np.savez(file, rows=rows.float().numpy(), metadata=about)


def _load_rows(path: Path, count: int) -> tuple[Tensor, dict[str, Any]]:
    with open_arrays(path) as arrays:
        if {"rows", METADATA} - arrays.keys():
            raise ValueError("it lacks rows or metadata")
        header = arrays["rows"]
        if len(header.shape) != 2 or header.shape[0] != count or header.dtype != np.float32:
            raise ValueError("its numbers are no float32 rows of that count")
        if header.shape[1] > MAX_WIDTH:
            raise ValueError(f"it has {header.shape[1]} features, more than {MAX_WIDTH}")
        about, rows = read_metadata(arrays), torch.from_numpy(arrays.read("rows"))
    if not bool(torch.isfinite(rows).all()):
        raise ValueError("its numbers are not finite")
    return rows, about
