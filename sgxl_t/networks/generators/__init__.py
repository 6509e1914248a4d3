"""Generators of both papers: mapping, synthesis, the layers of each, and growing."""
