"""Cost against work of every layer on the way to a model (`sgxl-t bench --stages`)."""
