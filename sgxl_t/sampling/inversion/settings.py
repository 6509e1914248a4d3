"""What an inversion is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Space = Literal["w", "w+"]
"""w: one style for all layers, which edits best. w+: one per layer, which fits photographs more closely."""

MOST_STEPS = 100_000
FEATURE_WEIGHT = 0.1
"""Of the feature loss beside the pixels', where nothing else is asked for."""


@dataclass(frozen=True)
class InversionSettings:
    """How photographs are inverted. ValueError of one sentence for numbers that are out of range."""

    steps: int = 300
    """Steps of the latents; with space="w+" the first third of them in W. 0 keeps the start."""
    space: Space = "w+"
    pti: int = 0
    """Steps that tune the generator around the latents (Roich et al. 2021); 0 leaves it as it is."""
    candidates: int = 512
    """Random w of which the nearest is the start, where no encoder is used."""
    encoder: bool = True
    """Start from the model's encoder where it has one."""
    features: str | None = None
    """Network of the feature loss; None: LPIPS where its weights are, else a random one."""
    feature_weight: float = FEATURE_WEIGHT
    """See FEATURE_WEIGHT."""
    classifier: str | None = None
    """Network with class scores that says which classes of a class model a photograph may show."""
    clip: str | None = None
    """CLIP that says which captions fit; None: the model's own, where it has its image tower."""
    seed: int = 0
    batch_size: int = 8
    """Photographs in one pass; of more, gradients are gathered pass by pass, which changes only rounding."""

    def __post_init__(self) -> None:
        for name in ("steps", "pti"):
            value = getattr(self, name)
            if not 0 <= value <= MOST_STEPS:
                raise ValueError(f"{name}={value} is out of range: use 0 to {MOST_STEPS}, such as 300")
        if self.space not in get_args(Space):
            raise ValueError(f"space={self.space!r} is unknown: use {' or '.join(get_args(Space))}")
        if not 1 <= self.candidates <= 1_000_000:
            raise ValueError(f"candidates={self.candidates} is out of range: use 1 to 1000000, such as 512")
        if not 0 <= self.feature_weight <= 1000:
            raise ValueError(
                f"feature_weight={self.feature_weight} is out of range: use 0 (pixels alone) to 1000"
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} is too small: use 1 or more, such as 8")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed} is no seed: use a whole number from 0 on")

    def phases(self) -> list[tuple[str, int]]:
        """Names and steps of what is optimised, in order; none of no steps."""
        first = self.steps if self.space == "w" else self.steps // 3
        every = [("w", first), ("w+", self.steps - first), ("pti", self.pti)]
        return [(name, steps) for name, steps in every if steps]
