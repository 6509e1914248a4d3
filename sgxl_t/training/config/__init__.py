"""The configuration of a run: dataclasses, YAML and flags, and mistakes told in plain words."""
