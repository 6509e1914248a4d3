"""What becomes of `auto:` in a run: published networks where they can be had and afforded, decided once for
all processes and for every later start."""
