"""`sgxl-t bench`: speed and memory of operators and networks on this machine, against plain ones or another
version."""
