"""Webdataset shards in the layout of img2dataset: tar files with `jpg|png|webp`, `txt` and `json` per sample.
Found, filtered, ordered by seed, and read as streams."""
