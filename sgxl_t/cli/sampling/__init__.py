"""`sgxl-t sample`, `sgxl-t interpolate`."""
