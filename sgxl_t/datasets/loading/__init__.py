"""Endless batches for training, each a function of seed, rank and images seen, so that a run resumes at the
same image."""
