"""The training loop and what one update needs."""
