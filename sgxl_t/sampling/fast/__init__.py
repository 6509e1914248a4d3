"""Sampling mode: compiled code, CUDA graphs, kept values, batches that fit."""
