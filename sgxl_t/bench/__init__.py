"""Measurements of this machine: our operators and networks against plain ones, or against another version."""
