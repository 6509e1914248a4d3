"""Truncation: how far styles are pulled to what is typical, and the centres of several groups of styles."""
