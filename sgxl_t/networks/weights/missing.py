"""The one error for pretrained weights that are not here."""


class MissingWeightsError(ValueError):
    """Pretrained weights are neither on this machine nor reachable; the message says which and what to do."""
