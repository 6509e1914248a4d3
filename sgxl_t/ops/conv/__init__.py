"""Convolutions with modulated weights, and what makes them fast."""
