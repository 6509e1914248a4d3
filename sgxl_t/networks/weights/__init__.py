"""Weights of networks on disk and on hubs."""
