"""`scripts/demo.py`."""
