"""Inception score."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def inception_score(logits: Any, *, splits: int = 10) -> tuple[float, float]:
    """Inception score (Salimans et al. 2016, section 4): mean and population standard deviation over splits.

    logits: array or tensor [N, C], for the paper's network C = 1008 and without the output bias. Split i
    holds the rows from i N / splits up to (i + 1) N / splits, so images made class by class must be
    shuffled first. Each score is exp(mean KL(p || mean p)), from 1 to C, in float64.
    Raises ValueError for values that are not finite and for fewer than 2 rows or fewer rows than splits.
    """
    logits = torch.as_tensor(logits).detach().cpu()
    if logits.ndim != 2:
        raise ValueError(f"the logits have shape {tuple(logits.shape)}: they must be [N, classes]")
    count = len(logits)
    if count < 2 or not 1 <= splits <= count:
        raise ValueError(f"{splits} splits of {count} pictures: give at least 2 and one for each split")
    bad = int((~torch.isfinite(logits).all(dim=1)).sum())
    if bad:
        raise ValueError(
            f"{bad} of {count} rows of logits hold NaN or infinite values: check the images and the extractor"
        )
    scores = []
    for i in range(splits):
        log_p = logits[i * count // splits : (i + 1) * count // splits].double().log_softmax(dim=1)
        # The mean in logarithms: log of a mean that underflows to zero would not be finite.
        log_mean = log_p.logsumexp(dim=0) - np.log(len(log_p))
        scores.append(float((log_p.exp() * (log_p - log_mean)).sum(dim=1).mean().exp()))
    return float(np.mean(scores)), float(np.std(scores))
