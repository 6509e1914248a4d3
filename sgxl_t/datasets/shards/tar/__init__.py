"""Tar files block by block: headers, the samples in them, and where the bytes come from."""
