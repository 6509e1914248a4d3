"""Tar files block by block: headers, samples, and where the bytes come from."""
