"""Images beside the nearest ones of a data set, with distances: does a model copy what it was trained on?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from tqdm import tqdm

from sgxl_t.datasets.base import ImageSource, evenly_spaced
from sgxl_t.datasets.open import open_source
from sgxl_t.metrics.distances.nearest import nearest, reduced, usual_distance
from sgxl_t.ops.images import as_rgb
from sgxl_t.sampling.sheets.sheet import Sheet

SHOWN = 4
"""Images of the data beside each one."""
MOST = 5000
"""Images of the data that are compared with unless a number is asked for, spread evenly over it."""
COPY = 0.25
"""Share of the usual distance below which an image counts as a copy."""


@dataclass(frozen=True)
class NearestSearch:
    """Images of a data set to compare with.

    places: which of the source; known: float32 [M, D], see `reduced`; usual: the median distance from one of
    them to the nearest other one.
    """

    source: ImageSource
    places: Sequence[int]
    known: Tensor
    usual: float

    @classmethod
    def of(cls, data: str, resolution: int, *, split: str = "train", most: int = MOST) -> NearestSearch:
        """Reads `most` images of a data set, see `open_source`. resolution: of the images beside them.

        ValueError for fewer than one.
        """
        if most < 1:
            raise ValueError(f"compare={most} leaves nothing to compare with: use 1 or more, such as {MOST}")
        source = open_source(data, resolution=resolution, split=split)
        places = evenly_spaced(len(source), most)
        reading = tqdm(places, unit="image", desc=data, delay=2, leave=False, disable=None)
        known = torch.cat([reduced(as_rgb(source[place].image[None])) for place in reading])
        return cls(source, places, known, usual_distance(known))

    def sheet(
        self, images: Sequence[Image.Image], names: Sequence[str]
    ) -> tuple[Sheet, list[dict[str, Any]]]:
        """Each image beside the nearest of the data, and the distances as JSON values.

        A distance is the root mean square difference at 16 px of pixels in [0, 1]; "x .8" is a share of the
        usual one.
        """
        stacked = torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images]))
        distances, places = nearest(reduced(stacked.permute(0, 3, 1, 2)), self.known, SHOWN)
        cells: list[Image.Image | None] = []
        titles, rows = [], []
        for image, name, ways, found in zip(images, names, distances, places, strict=True):
            numbers = [self.places[place] for place in found.tolist()]
            cells += [image, *(to_pil_image(as_rgb(self.source[one].image[None])[0]) for one in numbers)]
            titles.append(["generated", *(self._title(float(way)) for way in ways)])
            rows.append(self._facts(name, [float(f"{float(way):.4g}") for way in ways], numbers))
        return Sheet(cells, names, [""] * (1 + distances.shape[1]), titles), rows

    def _title(self, distance: float) -> str:
        share = f" x {distance / self.usual:.2g}" if self.usual else ""
        return f"{distance:.3f}{share}"

    def _facts(self, name: str, distances: list[float], numbers: list[int]) -> dict[str, Any]:
        copy = distances[0] < COPY * self.usual or distances[0] == 0
        return {"name": name, "distances": distances, "indices": numbers, "copy": copy}
