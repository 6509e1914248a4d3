"""What is reported: distances between feature sets, and small judges for the embedded data."""

from sgxl_t.metrics.distances.frechet import frechet_distance
from sgxl_t.metrics.distances.prdc import precision_recall

__all__ = ["frechet_distance", "precision_recall"]
