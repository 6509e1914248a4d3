"""Everything that is an nn.Module, with the dataclasses of its sizes.

A network can be read knowing torch and `ops`.
"""
