"""Pickles read as data: nothing that they contain is run."""
