"""`sgxl-t evaluate`."""
