"""Directions in w: found, kept in files, applied to latents."""
