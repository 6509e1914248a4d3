"""Data sets: bytes to uint8 pictures with labels and captions."""

from sgxl_t.datasets.base import Batch, ImageSource, Sample, collate, open_source
from sgxl_t.datasets.loading.loader import batches

__all__ = ["Batch", "ImageSource", "Sample", "batches", "collate", "open_source"]
