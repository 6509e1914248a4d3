"""What truncation pulls styles to: the condition's own average, one for all, or the nearest of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.mapping_t import MappingT
from sgxl_t.sampling.sample_spec import TruncationMode
from sgxl_t.sampling.truncation.centroids import Centroids, free_width


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
    ws = generator.mapping(z, c)
    weight = torch.as_tensor(psi).to(ws)
    if bool((weight == 1).all()):
        return ws
    if truncation == "class":
        w = ws[:, 0]
        found = (generator.mapping.center(c) if center is None else center).to(w).expand_as(w).unsqueeze(1)
    else:
        found = other_center(generator, ws, c, Truncation(truncation, centroids=centroids))
    return pulled(ws, found, weight, cutoff)


def retruncated_styles(
    generator: Generator, ws: Tensor, c: Tensor | None, psi: Tensor, truncation: Truncation
) -> Tensor:
    """Given styles [N, num_ws, w_dim], of one w or of a w for each layer, pulled to their centre by psi [N].

    c: conditions of the rows; None where they are not known. A StyleGAN-T mapping needs none, since its w
    holds the condition itself, which truncation leaves alone. ValueError where the centre needs a condition.
    """
    if bool((psi == 1).all()):
        return ws
    mapping = generator.mapping
    by_class = truncation.mode == "centroid" and getattr(truncation.centroids, "classes", None) is not None
    tail_tells = isinstance(mapping, MappingT) or truncation.mode != "class"
    if c is None and generator.condition.kind != "none" and (by_class or not tail_tells):
        raise ValueError(
            "the class or prompt of these latents is not known, so psi has no centre to pull to: name it, "
            "take truncation=global, or leave psi out"
        )
    if tail_tells:
        center = other_center(generator, ws, c, truncation)
    else:
        center = mapping.center(c).to(ws).expand(len(ws), -1).unsqueeze(1)
    return pulled(ws, center, psi.to(ws), truncation.cutoff)


def other_center(generator: Generator, ws: Tensor, c: Tensor | None, truncation: Truncation) -> Tensor:
    """The ws themselves with the part that truncation moves at its centre; [N, num_ws, w_dim].

    The centre is the average of all conditions, or the nearest one to the first w by mode "centroid".
    """
    center, width = ws.clone(), free_width(generator)
    if truncation.mode == "centroid":
        assert truncation.centroids is not None
        center[:, :, :width] = truncation.centroids.nearest(ws[:, 0, :width], c).to(ws)[:, None]
    else:
        center[:, :, :width] = global_center(generator).to(ws)
    return center


def pulled(ws: Tensor, center: Tensor, psi: Tensor, cutoff: int | None) -> Tensor:
    """centre + psi * (ws - centre) in the first `cutoff` styles, None for all; psi [N], or one number."""
    first = ws.shape[1] if cutoff is None else min(max(cutoff, 0), ws.shape[1])
    truncated = center.lerp(ws, psi.reshape(-1, 1, 1))
    return torch.cat([truncated[:, :first], ws[:, first:]], dim=1)


def global_center(generator: Generator) -> Tensor:
    """Average [F] of the part of w that is truncated, every class counting the same."""
    if isinstance(generator.mapping, MappingT):
        return generator.mapping.x_avg
    average = generator.mapping.w_avg
    assert average is not None
    return average if average.ndim == 1 else average.mean(dim=0)
