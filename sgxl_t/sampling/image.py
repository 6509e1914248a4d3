"""What sampling gives: images, each with what it shows, its seed and its truncation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class GeneratedImage:
    """One image (RGB, or L of a gray generator) with its prompt or class, seed and truncation.

    score: cosine of image and prompt in CLIP, where it was chosen by that.
    """

    image: Image.Image
    condition: str
    seed: int
    psi: float = 1.0
    score: float | None = None


@dataclass(frozen=True)
class GeneratedImages:
    """The answer to one call, in the order asked for: for every condition, one image per seed.

    psis: truncation of each. scores: see `GeneratedImage`.
    """

    images: list[Image.Image]
    conditions: list[str]
    seeds: list[int]
    psis: list[float]
    scores: list[float | None]

    @classmethod
    def of(cls, generated: Iterable[GeneratedImage]) -> GeneratedImages:
        """All of them, made now."""
        made = list(generated)
        return cls(
            [one.image for one in made],
            [one.condition for one in made],
            [one.seed for one in made],
            [one.psi for one in made],
            [one.score for one in made],
        )
