"""The data that `sgxl-t evaluate` compares with, opened at the sizes the metrics need."""

from __future__ import annotations

from collections.abc import Sequence

from sgxl_t.cli.pipes import shard_options
from sgxl_t.datasets.base import ImageSource
from sgxl_t.datasets.decode import Size
from sgxl_t.datasets.open import open_to_measure
from sgxl_t.files.terminal import visible
from sgxl_t.metrics.coco import open_coco
from sgxl_t.metrics.protocol import MetricSpec
from sgxl_t.metrics.real_cache import RealImages


class RealData:
    """The real images at any size, each data set opened once."""

    def __init__(self, reference: str | None, split: str, *, allow_pipe: bool = False) -> None:
        self.reference, self.split, self.shards = reference, split, shard_options(allow_pipe)
        self._sources: dict[tuple[Size, bool], ImageSource] = {}
        self._reals: dict[tuple[Size, bool, bool], RealImages] = {}

    def source(self, size: Size, *, gray: bool = False) -> ImageSource | None:
        """The data set; None where none was named."""
        if self.reference is None:
            return None
        if (size, gray) not in self._sources:
            source = open_to_measure(self.reference, size, split=self.split, shards=self.shards)
            source.gray = gray
            self._sources[size, gray] = source
        return self._sources[size, gray]

    def reals(
        self, specs: Sequence[MetricSpec], size: Size, *, gray: bool = False
    ) -> dict[int | None, RealImages]:
        """Real images by resolution of the metrics. size, gray: of the generated ones."""
        if self.reference is None:
            return {}
        found: dict[int | None, RealImages] = {}
        for spec in specs:
            if spec.needs_real and spec.resolution not in found:
                at = spec.resolution
                found[at] = self._real(size if at is None else (at, at), at is not None, gray)
        return found

    def summary(self) -> list[str]:
        """What was rejected, not used or repaired, a line each."""
        opened = [*self._sources.values(), *(real.source for real in self._reals.values())]
        lines = (line for source in opened for line in source.rejects.summary())
        return [f"{self.reference}: {line}" for line in dict.fromkeys(lines)]

    def _real(self, size: Size, coco: bool, gray: bool) -> RealImages:
        if (size, coco, gray) not in self._reals:
            assert self.reference is not None
            source = open_coco(self.reference, size[0]) if coco else self.source(size, gray=gray)
            assert source is not None
            source.gray = gray
            name = self.reference if self.split == "train" else f"{self.reference} {self.split}"
            self._reals[size, coco, gray] = RealImages(source, visible(f"{name} in gray" if gray else name))
        return self._reals[size, coco, gray]
