"""What watches a run beside its updates: sample grids, tracked metrics, the best model, health, the
report."""
