"""Data sets: from bytes to uint8 images with labels and captions. `open_source` opens all of them by name."""

from sgxl_t.datasets.base import Batch, ImageSource, Sample, collate
from sgxl_t.datasets.loading.loader import batches
from sgxl_t.datasets.loading.options import BatchOptions
from sgxl_t.datasets.open import open_source

__all__ = ["Batch", "BatchOptions", "ImageSource", "Sample", "batches", "collate", "open_source"]
