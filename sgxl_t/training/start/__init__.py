"""What `--start` names, which settings follow from it, and what of its weights a new run takes."""
