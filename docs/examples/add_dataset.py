"""A data set of one's own: stripes, drawn when asked for, with their direction as class and as caption."""

from __future__ import annotations

import hashlib

import torch

from sgxl_t.datasets.base import ImageSource, Sample, SourceOptions
from sgxl_t.datasets.open import register_source
from sgxl_t.training.train import main

DIRECTIONS = ("upright", "level")


class Stripes(ImageSource):
    """Pictures by index; the base class mirrors, keeps small sets in memory and passes over broken ones."""

    def __init__(self, count: int, options: SourceOptions) -> None:
        super().__init__(
            resolution=options.resolution, mirror=options.mirror, class_names=DIRECTIONS, has_captions=True
        )
        self.count = count

    def _count(self) -> int:
        return self.count

    def _read(self, index: int) -> Sample:
        """A function of the index alone, so that a run that resumes sees the same pictures."""
        label = index % len(DIRECTIONS)
        width = 1 + index // len(DIRECTIONS) % 4
        line = (torch.arange(self.resolution) // width % 2 * 255).to(torch.uint8)
        image = line.expand(3, self.resolution, self.resolution)
        image = image if label == 0 else image.transpose(1, 2)
        return Sample(image.contiguous(), label, f"{DIRECTIONS[label]} stripes, {width} px wide")

    def fingerprint(self) -> str:
        """Equal for equal pictures, labels and captions; results and caches are kept under it."""
        return hashlib.sha256(f"stripes 1 {self.count} {self.resolution} {self.mirror}".encode()).hexdigest()[
            :16
        ]


@register_source("stripes")
def stripes(detail: str, options: SourceOptions) -> Stripes:
    """`--data stripes:64` gives 64 pictures, `stripes` gives 256."""
    return Stripes(int(detail or 256), options)


if __name__ == "__main__":
    main()
