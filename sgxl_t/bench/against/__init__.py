"""Another version of the package as the reference of a measurement (`sgxl-t bench --against`)."""
