"""What truncation pulls styles to: the condition's own average, one for all, or the nearest of many."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.mapping_t import MappingT
from sgxl_t.sampling.centroids import Centroids, free_width

Truncation = Literal["class", "global", "centroid"]
"""class: the average w of the sample's class or prompt, or of all z without either (the trained networks' own
way). global: the average over all classes in equal shares. centroid: the nearest centre of k-means.

StyleGAN-T keeps the condition out of the truncated part of w, so class and global are the same there.
"""


def check_truncation(generator: Generator, truncation: str, centroids: Centroids | None) -> None:
    """Raises ValueError for an unknown kind, and for one that this generator has no centres for."""
    if truncation not in get_args(Truncation):
        raise ValueError(f"truncation {truncation!r} is unknown: use {', '.join(get_args(Truncation))}")
    if truncation == "centroid" and centroids is None:
        raise ValueError(
            "the model has no centres for truncation=centroid: make them with `sgxl-t centroids MODEL`"
        )
    if truncation == "global" and generator.condition.kind == "text" and _whole(generator):
        raise ValueError(
            "this model keeps no average over all prompts for truncation=global: use class, which pulls to "
            "the prompt's own average"
        )


def truncated_styles(
    generator: Generator,
    z: Tensor,
    c: Tensor | None,
    *,
    psi: float | Tensor,
    cutoff: int | None = None,
    truncation: Truncation = "class",
    centroids: Centroids | None = None,
    center: Tensor | None = None,
) -> Tensor:
    """Styles [N, num_ws, w_dim] of latents z and conditions c: centre + psi * (w - centre).

    psi: one number for all samples or a tensor [N] of one each; 1 leaves w alone.
    truncation: which centre. centroids: needed for truncation="centroid" (see `check_truncation`).
    center: [N, w_dim], what the mapping gives for c, where it is known already.
    cutoff: number of leading styles that are truncated; None truncates all.
    """
    mapping = generator.mapping
    ws = mapping(z, c)
    weight = torch.as_tensor(psi).to(ws)
    if bool((weight == 1).all()):
        return ws
    w = ws[:, 0]
    if truncation == "class":
        center = (mapping.center(c) if center is None else center).to(w).expand_as(w)
    else:
        center, width = w.clone(), free_width(generator)
        if truncation == "global":
            center[:, :width] = global_center(generator).to(w)
        else:
            assert centroids is not None
            center[:, :width] = centroids.nearest(w[:, :width], c).to(w)
    first = mapping.num_ws if cutoff is None else min(max(cutoff, 0), mapping.num_ws)
    truncated = center.lerp(w, weight.reshape(-1, 1)).unsqueeze(1)
    return torch.cat([truncated.expand(-1, first, -1), ws[:, first:]], dim=1)


def global_center(generator: Generator) -> Tensor:
    """Average [F] of the part of w that is truncated, every class counting the same."""
    if isinstance(generator.mapping, MappingT):
        return generator.mapping.x_avg
    average = generator.mapping.w_avg
    assert average is not None
    return average if average.ndim == 1 else average.mean(dim=0)


def _whole(generator: Generator) -> bool:
    return not isinstance(generator.mapping, MappingT)
