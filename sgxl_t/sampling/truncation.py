"""What truncation pulls styles to: the condition's own average, one for all, or the nearest of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.mapping_t import MappingT
from sgxl_t.sampling.centroids import Centroids, free_width
from sgxl_t.sampling.sample_spec import TruncationMode


@dataclass(frozen=True)
class Truncation:
    """How styles are truncated besides psi: to which centre, and how many of the first styles (None: all).

    centroids: the centres that mode "centroid" needs.
    """

    mode: TruncationMode = "class"
    cutoff: int | None = None
    centroids: Centroids | None = None

    def options(self) -> dict[str, Any]:
        """The keywords of `truncated_styles`."""
        return {"truncation": self.mode, "cutoff": self.cutoff, "centroids": self.centroids}


def check_truncation(generator: Generator, truncation: Truncation) -> None:
    """Raises ValueError for an unknown mode, and for one or a cutoff that this generator does not have."""
    if truncation.mode not in get_args(TruncationMode):
        raise ValueError(
            f"truncation {truncation.mode!r} is unknown: use {', '.join(get_args(TruncationMode))}"
        )
    if truncation.cutoff is not None and not 0 <= truncation.cutoff <= generator.num_ws:
        raise ValueError(
            f"cutoff={truncation.cutoff} is out of range: the model has {generator.num_ws} styles, so use 0 "
            f"to {generator.num_ws}"
        )
    if truncation.mode == "centroid" and truncation.centroids is None:
        raise ValueError(
            "the model has no centres for truncation=centroid: make them with `sgxl-t centroids MODEL`"
        )
    one_center = isinstance(generator.mapping, MappingT)
    if truncation.mode == "global" and generator.condition.kind == "text" and not one_center:
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
    truncation: TruncationMode = "class",
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
