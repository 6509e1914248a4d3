"""Generators of both papers: mapping and synthesis, their layers, named sizes, and growing by heads on a
stem."""
