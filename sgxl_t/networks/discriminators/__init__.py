"""Discriminators of both papers: frozen features, trainable heads."""
