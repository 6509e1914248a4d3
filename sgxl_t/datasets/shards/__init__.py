"""Webdataset shards in the layout of img2dataset: `jpg|png|webp` + `txt` + `json` per sample in tar files."""

from sgxl_t.datasets.shards.class_files import CLASS_FILE
from sgxl_t.datasets.shards.discover import TYPED, Consent, find_shards
from sgxl_t.datasets.shards.source import ShardOptions, ShardSource
from sgxl_t.datasets.shards.tar.opening import is_local

__all__ = [
    "CLASS_FILE",
    "TYPED",
    "Consent",
    "ShardOptions",
    "ShardSource",
    "find_shards",
    "is_local",
]
