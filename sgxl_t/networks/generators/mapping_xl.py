"""From z and a condition to styles as StyleGAN-XL does it (Sauer et al. 2022, section 3.1)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sgxl_t.networks.condition_input import condition_vectors, make_class_table
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig
from sgxl_t.networks.layers import FullyConnected, normalize_2nd_moment

AVERAGE_BETA = 0.998
"""Share of a running average of w that stays at each update."""

LR_MULTIPLIER = 0.01
"""The layers from z to w learn a hundred times slower than the rest."""

CENTER_DRAWS = 256
"""Latents whose mean w is the centre of one text prompt."""


class MappingXL(nn.Module):
    """z [N, z_dim] and a condition to styles [N, num_ws, w_dim]; z is low-dimensional (64 in the paper).

    The condition vector (row of the class table, or text feature) is projected to `embed_proj_dim`, brought
    to unit mean square and concatenated to z. Averages of w are kept per class [num_classes, w_dim], or once
    [w_dim] without condition; a text prompt has none, its centre is computed.
    """

    w_avg: Tensor | None

    def __init__(self, config: GeneratorConfig, condition: ConditionSpec, num_ws: int) -> None:
        """num_ws: styles that the synthesis network takes; all get the same w."""
        super().__init__()
        sizes = config.stylegan3
        self.condition = condition
        self.z_dim, self.w_dim, self.num_ws = config.z_dim, sizes.w_dim, num_ws
        self.embed = make_class_table(condition)
        self.embed_proj: FullyConnected | None = None
        width = config.z_dim
        if condition.kind != "none":
            self.embed_proj = FullyConnected(condition.dim, sizes.embed_proj_dim, act="lrelu")
            width += sizes.embed_proj_dim
        self.num_layers = sizes.mapping_layers
        for index in range(self.num_layers):
            layer = FullyConnected(width, self.w_dim, act="lrelu", lr_multiplier=LR_MULTIPLIER)
            self.add_module(f"fc{index}", layer)
            width = self.w_dim
        shape = {"class": (condition.num_classes, self.w_dim), "none": (self.w_dim,), "text": None}
        average_shape = shape[condition.kind]
        self.register_buffer("w_avg", None if average_shape is None else torch.zeros(average_shape))

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_averages: bool = False,
    ) -> Tensor:
        """Styles [N, num_ws, w_dim] of latents z [N, z_dim], about N(0, 1), and condition c (see
        ConditionSpec).

        truncation_psi: 1 leaves the styles alone, 0 gives the centre of the condition, above 1 exaggerates.
        truncation_cutoff: number of leading styles that are truncated; none truncates all.
        update_averages: let the running averages of w take in this batch (the discriminator's phase does).
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"latents of shape {tuple(z.shape)} were given: pass z [N, {self.z_dim}]")
        w = self._map(z, self.condition_part(c))
        if update_averages:
            self._update_averages(w.detach(), c)
        ws = w.unsqueeze(1).expand(-1, self.num_ws, -1)
        if truncation_psi == 1:
            return ws
        center = self.center(c).to(w.dtype)
        truncated = center.lerp(w, truncation_psi).unsqueeze(1)
        cutoff = self.num_ws if truncation_cutoff is None else min(max(truncation_cutoff, 0), self.num_ws)
        return torch.cat([truncated.expand(-1, cutoff, -1), ws[:, cutoff:]], dim=1)

    def center(self, c: Tensor | None = None) -> Tensor:
        """The w that truncation pulls to: [N, w_dim] for a condition c of N samples, [w_dim] when
        unconditional.

        class: the running average of the class. none: the one running average. text: the mean w of the prompt
        over a fixed set of latents, the same on every device and in every process.
        """
        if self.condition.kind == "text":
            return self._text_center(c)
        condition_vectors(self.condition, self.embed, c)  # only to refuse a condition of the wrong kind
        assert self.w_avg is not None
        return self.w_avg if c is None else self.w_avg[c]

    @torch.no_grad()
    def _text_center(self, c: Tensor | None) -> Tensor:
        vectors = self.condition_part(c)
        assert vectors is not None
        rng = torch.Generator("cpu").manual_seed(0)
        z = torch.randn(CENTER_DRAWS, self.z_dim, generator=rng, device="cpu").to(vectors.device)
        # One prompt at a time: all at once would make a batch of 256 N.
        return torch.stack([self._map(z, row.expand(CENTER_DRAWS, -1)).mean(dim=0) for row in vectors])

    def condition_part(self, c: Tensor | None) -> Tensor | None:
        """Normalised projection [N, embed_proj_dim] of the condition; None when unconditional."""
        vectors = condition_vectors(self.condition, self.embed, c)
        if vectors is None:
            return None
        assert self.embed_proj is not None
        return normalize_2nd_moment(self.embed_proj(vectors))

    def _map(self, z: Tensor, condition_part: Tensor | None) -> Tensor:
        x = normalize_2nd_moment(z.to(torch.promote_types(z.dtype, torch.float32)))
        if condition_part is not None:
            if len(condition_part) != len(x):
                raise ValueError(
                    f"{len(x)} latents came with {len(condition_part)} conditions: pass as many of each"
                )
            x = torch.cat([x, condition_part.to(x.dtype)], dim=1)
        for index in range(self.num_layers):
            x = cast(FullyConnected, self.get_submodule(f"fc{index}"))(x)
        return x

    @torch.no_grad()
    def _update_averages(self, w: Tensor, c: Tensor | None) -> None:
        """As if sample after sample moved its average, in order: a class that comes twice moves twice."""
        if self.w_avg is None:
            return
        w = w.to(self.w_avg.dtype)
        if c is None:
            self.w_avg.lerp_(w.mean(dim=0), 1 - AVERAGE_BETA)
            return
        later = (c[:, None] == c[None, :]).triu(diagonal=1).sum(dim=1)
        counts = torch.zeros(len(self.w_avg), device=w.device, dtype=w.dtype)
        counts.index_add_(0, c, torch.ones_like(c, dtype=w.dtype))
        self.w_avg.mul_(AVERAGE_BETA ** counts[:, None])
        self.w_avg.index_add_(0, c, (1 - AVERAGE_BETA) * AVERAGE_BETA ** later[:, None].to(w.dtype) * w)
