"""What is reported about generated images: metrics by name with their protocols, from one pass over the
images."""

from sgxl_t.metrics.distances.frechet import frechet_distance
from sgxl_t.metrics.distances.prdc import precision_recall

__all__ = ["frechet_distance", "precision_recall"]
