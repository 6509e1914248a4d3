"""What lets a run go on: checkpoints, other runs and published states to start from."""
