"""Webdataset shards in the layout of img2dataset: `jpg|png|webp` + `txt` + `json` per sample in tar files."""
