"""Webdataset shards in the layout of img2dataset: `jpg|png|webp` + `txt` + `json` per sample in tar files."""

from sgxl_t.datasets.shards.discover import find_shards
from sgxl_t.datasets.shards.samples import is_local
from sgxl_t.datasets.shards.source import CLASS_FILE, ShardOptions, ShardSource

__all__ = ["CLASS_FILE", "ShardOptions", "ShardSource", "find_shards", "is_local"]
