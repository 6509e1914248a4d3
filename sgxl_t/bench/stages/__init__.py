"""Cost against work: every stage of a generator by itself."""
