"""Mean and covariance of features that arrive in batches, on one process or many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from sgxl_t.files.arrays import StoredArrays, open_arrays
from sgxl_t.files.untrusted import parse_json
from sgxl_t.files.whole import whole_file

METADATA = "metadata"
"""Name of the array that holds facts about the others, as JSON."""
MAX_METADATA_BYTES = 2**20
MAX_WIDTH = 2**14
"""Most features that are read back; a scatter matrix of so many takes 2 GiB."""
_BLOCK = 1024
"""Rows per update of the sums: few large products are faster than many small ones."""


class FeatureStatistics:
    """Streaming mean and scatter matrix of features in float64, the same for any split up to rounding.

    Kept are n, sum (x - shift) and sum (x - shift)(x - shift)^T, with one fixed shift near the mean: the
    covariance is then exact to about 1e-15 where the mean is a million times the deviation (plain sums lose
    every digit there).
    n: rows added so far. nonfinite: rows left out because they hold NaN or infinite values.
    """

    def __init__(self, dim: int, shift: Any = None) -> None:
        """dim: width of the features. shift: [dim], near their mean; default: mean of the first block."""
        self.dim = dim
        self.n = 0
        self.nonfinite = 0
        self._shift = None if shift is None else torch.as_tensor(shift).detach().double().reshape(dim)
        self._total = torch.zeros(dim, dtype=torch.float64)
        self._square = torch.zeros(dim, dim, dtype=torch.float64)
        self._pending: list[Tensor] = []
        self._waiting = 0

    @classmethod
    def of(cls, n: int, mean: Any, m2: Any, nonfinite: int = 0) -> FeatureStatistics:
        """Statistics of n rows with mean [dim] and scatter matrix m2 [dim, dim]."""
        mean = torch.as_tensor(mean, dtype=torch.float64)
        # Without rows there is no mean yet: the first to come set the shift.
        statistics = cls(len(mean), shift=mean if n else None)
        statistics.n, statistics.nonfinite = n, nonfinite
        statistics._square = torch.as_tensor(m2, dtype=torch.float64).clone()
        return statistics

    @property
    def mean(self) -> Tensor:
        """Mean, float64 [dim] on the CPU; zeros for no rows."""
        self._flush()
        if self.n == 0 or self._shift is None:
            return torch.zeros(self.dim, dtype=torch.float64)
        return (self._shift.to(self._total.device) + self._total / self.n).cpu()

    @property
    def m2(self) -> Tensor:
        """Scatter matrix sum (x - mean)(x - mean)^T, float64 [dim, dim] on the CPU."""
        self._flush()
        square = self._square - torch.outer(self._total, self._total) / max(self.n, 1)
        return ((square + square.T) / 2).cpu()

    def covariance(self, ddof: int = 1) -> Tensor:
        """Covariance, float64 [dim, dim]: the scatter matrix over n - ddof. Raises what `check` raises."""
        self.check()
        return self.m2 / (self.n - ddof)

    def check(self) -> None:
        """Raises ValueError for rows that were not finite, with their count, and for fewer than 2 rows."""
        if self.nonfinite:
            raise ValueError(
                f"{self.nonfinite} of {self.n + self.nonfinite} feature rows hold NaN or infinite "
                "values: check the images and the extractor"
            )
        if self.n < 2:
            raise ValueError(f"there are features of {self.n} pictures: a covariance needs at least 2")

    def update(self, features: Any) -> None:
        """Adds features [N, dim] of any type and device; rows that are not finite are only counted."""
        features = torch.as_tensor(features).detach()
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ValueError(f"features have shape {tuple(features.shape)}: [N, {self.dim}] is expected here")
        for rows in features.split(_BLOCK):
            finite = torch.isfinite(rows).all(dim=1)
            self.nonfinite += len(rows) - int(finite.sum())
            self._add(rows[finite])

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Adds the rows of `other` in place and returns itself (Chan et al. 1979, pairwise update).

        Raises ValueError when the widths differ.
        """
        if self.dim != other.dim:
            raise ValueError(
                f"moments of {self.dim} and of {other.dim} features cannot be merged: "
                "take both from one extractor"
            )
        self.nonfinite += other.nonfinite
        if other.n == 0:
            return self
        n = self.n + other.n
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.n / n)
        m2 = self.m2 + other.m2 + torch.outer(difference, difference) * (self.n * other.n / n)
        self._total = torch.zeros_like(mean)
        self.n, self._shift, self._square = n, mean, m2
        return self

    def all_reduce(self) -> FeatureStatistics:
        """Statistics of the rows of all ranks of the default process group, equal on every rank.

        Ranks may hold any number of rows, none as well. Every rank must call it; two reductions take place:
        of the counts and means, which gives all ranks one shift, then of the sums about it (8 dim^2 bytes).
        Without a process group it returns itself.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return self
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        n, mean, m2 = self.n, self.mean, self.m2
        counts = torch.tensor([n, self.nonfinite], dtype=torch.float64)
        first = torch.cat([counts, n * mean]).to(device)
        dist.all_reduce(first)
        first = first.cpu()
        total, nonfinite = int(first[0]), int(first[1])
        shift = first[2:] / max(total, 1)
        offset = mean - shift if n else torch.zeros_like(mean)
        sums = torch.cat([(n * offset)[None], m2 + n * torch.outer(offset, offset)]).to(device)
        dist.all_reduce(sums)
        sums = sums.cpu()
        result = FeatureStatistics.of(total, shift, sums[1:], nonfinite)
        result._total = sums[0].clone()
        return result

    def save(self, path: str | Path, metadata: dict[str, Any] | None = None) -> None:
        """Writes n, mean and scatter matrix with facts for JSON about them; the file appears whole or not.

        path: by custom `*.npz`. The scatter matrix is stored, not the covariance: readers choose ddof.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as aside, aside.open("xb") as file:
            np.savez(
                file,
                n=np.int64(self.n),
                nonfinite=np.int64(self.nonfinite),
                mean=self.mean.numpy(),
                m2=self.m2.numpy(),
                metadata=np.asarray(json.dumps(metadata or {}, sort_keys=True)),
            )

    @classmethod
    def load(cls, path: str | Path) -> tuple[FeatureStatistics, dict[str, Any]]:
        """Statistics and metadata of a file that `save` wrote; nothing in it is executed.

        Raises ValueError for a file that is damaged, of another kind or compressed (what it holds is then
        never larger in memory than on disk), OSError where it cannot be opened.
        """
        try:
            with open_arrays(path) as arrays:
                _check_arrays(arrays)
                n, nonfinite, mean, m2 = (arrays.read(name) for name in ("n", "nonfinite", "mean", "m2"))
                metadata = read_metadata(arrays)
            if not (np.isfinite(mean).all() and np.isfinite(m2).all() and n >= 0 and nonfinite >= 0):
                raise ValueError("its numbers are not finite")
        except ValueError as error:
            raise ValueError(
                f"{path} holds no saved moments ({error}): delete it and compute it again"
            ) from error
        return cls.of(int(n), mean, m2, int(nonfinite)), metadata

    def _add(self, rows: Tensor) -> None:
        """Holds rows back until they fill a block."""
        self.n += len(rows)
        self._pending.append(rows)
        self._waiting += len(rows)
        if self._waiting >= _BLOCK:
            self._flush()

    def _flush(self) -> None:
        """Brings the rows held back into the sums."""
        if not self._waiting:
            return
        device = self._pending[0].device
        # Apple's accelerator has no float64.
        device = torch.device("cpu") if device.type == "mps" else device
        rows = torch.cat([part.to(device) for part in self._pending]).double()
        self._pending, self._waiting = [], 0
        if self._shift is None:
            self._shift = rows.mean(dim=0)
        self._shift, self._total = self._shift.to(device), self._total.to(device)
        rows -= self._shift
        self._total += rows.sum(dim=0)
        self._square = self._square.to(device).addmm_(rows.T, rows)


def _check_arrays(arrays: StoredArrays) -> None:
    """Raises ValueError where names, shapes or types are not those that `save` writes."""
    missing = {"n", "nonfinite", "mean", "m2", METADATA} - arrays.keys()
    if missing:
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    shape, counts = arrays["mean"].shape, (arrays["n"], arrays["nonfinite"])
    if shape > (MAX_WIDTH,):
        raise ValueError(f"it has {shape[0]} features, more than {MAX_WIDTH}")
    if len(shape) != 1 or arrays["m2"].shape != shape * 2 or any(one.shape for one in counts):
        raise ValueError("its arrays do not fit together")
    if any(arrays[name].dtype != np.float64 for name in ("mean", "m2")):
        raise ValueError("its numbers are no float64")
    if any(one.dtype != np.int64 for one in counts):
        raise ValueError("its counts are no int64")


def read_metadata(arrays: StoredArrays) -> dict[str, Any]:
    """The facts that stand beside arrays; ValueError where they are none."""
    header = arrays[METADATA]
    if header.shape or header.dtype.kind != "U" or header.dtype.itemsize > MAX_METADATA_BYTES:
        raise ValueError("its metadata is no short text")
    found = parse_json(str(arrays.read(METADATA)), "its metadata")
    found.keys()
    return dict(found.raw)
