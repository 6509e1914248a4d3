"""Smooth curves through keys, as weights of the keys: cubic splines, open or closed."""

from __future__ import annotations

import torch
from torch import Tensor


def spline_weights(keys: int, places: Tensor, *, closed: bool) -> Tensor:
    """Weights float64 [P, K] that a cubic spline through K keys gives each of them at places [P].

    Key k lies at place k. The curve, its slope and its bend are continuous. An open one goes from 0 to K - 1
    and ends without bend (the natural spline); a closed one goes on from the last key to the first, which
    lies at K as well, as smoothly as everywhere (the periodic spline). The value at a place is its row of
    weights times the values of the keys, each of which is met exactly; weights sum to 1.
    """
    assert keys >= 2, "a curve has at least two keys"
    bends = _bends(keys, closed)
    spans = keys if closed else keys - 1
    left = places.double().floor().long().clamp(0, spans - 1)
    right = (left + 1) % keys
    share = (places.double() - left)[:, None]
    values = torch.eye(keys, dtype=torch.float64)
    straight = (1 - share) * values[left] + share * values[right]
    # A cubic with these ends and these second derivatives there (Numerical Recipes, section 3.3).
    before, after = (1 - share) ** 3 - (1 - share), share**3 - share
    return straight + (before * bends[left] + after * bends[right]) / 6


def _bends(keys: int, closed: bool) -> Tensor:
    """Second derivatives [K, K] at the keys, as weights of the keys, so that slopes agree on both sides."""
    matrix, right_side = (torch.zeros(keys, keys, dtype=torch.float64) for _ in range(2))
    for key in range(keys):
        if not closed and key in (0, keys - 1):
            matrix[key, key] = 1  # no bend at an open end
            continue
        before, after = (key - 1) % keys, (key + 1) % keys
        for place, part, whole in ((before, 1, 6), (key, 4, -12), (after, 1, 6)):
            matrix[key, place] += part
            right_side[key, place] += whole
    return torch.linalg.solve(matrix, right_side)
