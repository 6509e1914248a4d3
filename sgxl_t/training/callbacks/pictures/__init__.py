"""Pictures that a run shows beside its sample grid: real ones of the same conditions, the nearest ones it
trains on, and how samples change over time."""
