"""`sgxl-t evaluate`: from its options to a table of numbers with their protocols."""
