"""Another version of the package as the reference."""
