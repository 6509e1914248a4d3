"""Processes, devices, precision, and how a trained network is held on them."""
