"""What happens beside the updates: numbers, grids, metrics, health, the best model, the report."""
