"""Sampling mode: cached values, compiled code, CUDA graphs, and batches that fit into memory."""
