"""Convolutions whose weights are modulated by styles, and equal ways to compute them faster."""
