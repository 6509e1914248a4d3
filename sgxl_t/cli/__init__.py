"""The commands of `sgxl-t`: each turns options into one call of the package, and mistakes into one
sentence."""
