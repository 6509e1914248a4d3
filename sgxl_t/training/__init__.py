"""Training of a generator: from a configuration to a run folder that resumes exactly.

`train` is the entry, `build` makes the networks, `loop` does the updates, `callbacks` watch them.
"""
