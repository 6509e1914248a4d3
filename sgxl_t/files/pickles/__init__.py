"""Pickles read as data, within bounds: nothing that they contain is run."""
