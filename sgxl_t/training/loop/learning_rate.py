"""The schedule of learning rates."""

from __future__ import annotations


def learning_rate_factor(images_seen: int, total_images: int, final_share: float) -> float:
    """Share of the first learning rate: 1 for half of the run, then linearly down to `final_share`."""
    late = max(0.0, images_seen / total_images * 2 - 1)
    return 1 - (1 - final_share) * late
