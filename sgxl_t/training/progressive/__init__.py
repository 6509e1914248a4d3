"""Stages as one run: each goes on from the one before."""
