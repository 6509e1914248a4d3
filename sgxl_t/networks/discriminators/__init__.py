"""Discriminators of both papers: frozen features of images, and the heads on them that learn."""
