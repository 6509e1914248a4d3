"""The configuration of a run: one tree of frozen dataclasses, read from YAML and flags, with mistakes told in
plain words."""
