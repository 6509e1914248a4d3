"""Functions on tensors: filters, convolutions, augmentation, random streams.

They know of no network, and each is checked against a plain form in `reference`.
"""
