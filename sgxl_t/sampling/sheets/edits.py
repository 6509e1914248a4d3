"""Latents moved along directions: what a sheet and a film of them show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from sgxl_t.networks.generators.generator import Generator
from sgxl_t.sampling.directions.direction import Directions, check_strengths
from sgxl_t.sampling.latents import Latents, latent_specs
from sgxl_t.sampling.output.interpolation_writer import Track
from sgxl_t.sampling.sheets.sheet import Sheet
from sgxl_t.sampling.walks.plan import WalkSettings, plan_interpolation


@dataclass(frozen=True)
class EditTable:
    """A line for every row of latents and every direction, a column for every strength.

    layers: those that move, counted from 0; None for all that a direction moves.
    """

    rows: Latents
    directions: Directions
    strengths: Sequence[float]
    layers: Sequence[int] | None = None

    def latents(self, generator: Generator) -> Latents:
        """What the images of the table are drawn from, line by line."""
        return self.directions.applied(self.rows, check_strengths(self.strengths), generator, self.layers)

    @property
    def lines(self) -> list[str]:
        """What each line is called."""
        several = len(self.directions) > 1
        return [
            f"{row} | {name}" if several else row for row in self.rows.names for name in self.directions.names
        ]

    def sheet(self, images: Sequence[Image.Image]) -> Sheet:
        """The table of these images, which `latents` give."""
        what = "" if len(self.directions) > 1 else f"{self.directions.names[0]} "
        return Sheet(images, self.lines, [f"{what}{step:+g}" if step else "0" for step in self.strengths])

    def tracks(self, edited: Latents, frames: int) -> list[Track]:
        """A way for each line through its strengths and back, with `frames` images between two of them."""
        width = len(self.strengths)
        if width < 2:
            raise ValueError("a film leads from strength to strength: give at least two, such as -1,1")
        keys = latent_specs(edited)
        tracks = []
        for number, label in enumerate(self.lines):
            there = keys[number * width : (number + 1) * width]
            way = plan_interpolation([*there, *there[-2::-1]], WalkSettings(frames, "w", "straight"))
            tracks.append(Track(label, f"edit{number:04d}", way))
        return tracks
