"""Style-mixing tables: what each layer decides (Karras et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from sgxl_t.sampling.asked_numbers import spans
from sgxl_t.sampling.latents import Latents
from sgxl_t.sampling.sheets.sheet import Sheet


@dataclass(frozen=True)
class MixingTable:
    """Rows of latents that take some layers from columns of latents.

    groups: layers counted from 0, which each make a block of the table. The first line and the first column
    show the latents themselves. ValueError for latents of different models and for layers that do not exist.
    """

    rows: Latents
    columns: Latents
    groups: Sequence[Sequence[int]]

    def latents(self) -> Latents:
        """What the images of the table are drawn from, line by line, without the empty corner."""
        lines = [self.columns]
        for layers in self.groups:
            for row in range(len(self.rows)):
                one = self.rows[row]
                copies = one[[0] * len(self.columns)]
                lines += [one, copies.mixed(self.columns, layers)]
        return Latents.join(lines)

    def sheet(self, images: Sequence[Image.Image]) -> Sheet:
        """The table of these images, which `latents` give."""
        labels = [""]
        for layers in self.groups:
            several = f"layers {spans(layers)} | " if len(self.groups) > 1 else ""
            labels += [several + name for name in self.rows.names]
        return Sheet([None, *images], labels, ["", *self.columns.names])
