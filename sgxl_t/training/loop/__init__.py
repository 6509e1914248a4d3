"""The training loop: the data of a run, one update after the other, the moving average."""
