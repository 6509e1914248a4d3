"""Images in labelled rows and columns, of any sizes that are whole multiples of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from sgxl_t.sampling.output.grid import labelled_grid


@dataclass(frozen=True)
class Sheet:
    """images: row by row, None for a gap. titles: above each image, in place of those of the columns."""

    images: Sequence[Image.Image | None]
    rows: Sequence[str]
    columns: Sequence[str]
    titles: Sequence[Sequence[str]] = ()

    def drawn(self) -> Image.Image:
        """The sheet as one RGB image; small images are enlarged without smoothing."""
        side = max(image.width for image in self.images if image is not None)
        fitted = [None if image is None else _fitted(image, side) for image in self.images]
        return labelled_grid(fitted, self.rows, self.columns, self.titles)


def _fitted(image: Image.Image, side: int) -> Image.Image:
    image = image.convert("RGB")
    return image if image.width == side else image.resize((side, side), Image.Resampling.NEAREST)
