"""What sampling gives: images, each with what it shows, its seed and its truncation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image

OutputType = Literal["pil", "np", "pt", "latents"]


def check_output(kind: str) -> None:
    """ValueError for a form that images are not given in."""
    if kind not in get_args(OutputType):
        raise ValueError(f"output_type={kind!r} is unknown: use {', '.join(get_args(OutputType))}")


@dataclass(frozen=True)
class GeneratedImage:
    """One image (RGB, or L of a gray generator) with its prompt or class, seed and truncation.

    seed: None where it was drawn from given latents.
    score: cosine of image and prompt in CLIP, where it was chosen by that.
    """

    image: Image.Image
    condition: str
    seed: int | None
    psi: float = 1.0
    score: float | None = None


@dataclass(frozen=True)
class GeneratedImages:
    """The answer to one call, in the order asked for: for every condition, one image per seed.

    images: a list of PIL's, or what `given_as` makes of it. psis: truncation of each. seeds, scores: see
    `GeneratedImage`.
    """

    images: Any
    conditions: list[str]
    seeds: list[int | None]
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

    def given_as(self, kind: OutputType) -> GeneratedImages:
        """With the images as "pil", as "np" (float32 [N, H, W, C]) or as "pt" (float32 [N, C, H, W]).

        Arrays hold the bytes of the images over 255, so in [0, 1], as diffusers gives them.
        """
        if kind == "pil":
            return self
        stacked = np.stack([np.asarray(image, dtype=np.float32) / 255 for image in self.images])
        stacked = stacked[..., None] if stacked.ndim == 3 else stacked
        return replace(
            self, images=stacked if kind == "np" else torch.from_numpy(stacked).permute(0, 3, 1, 2)
        )
