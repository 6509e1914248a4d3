"""Endless batches that are a pure function of (seed, rank, images seen)."""
