"""From z and a condition to styles as StyleGAN-T does it (Sauer et al. 2023, section 3.1).

Only z passes through the small network; the condition vector is appended to its output unchanged. One average
of mapped z therefore serves every prompt and every class, and truncation keeps the condition whole. With
`instances` what a remembered picture deviates by, chosen by z, follows it, and truncation takes that away
again. With `mirrored` the last number of w says whether the picture is mirrored: z's first one, negative for
half of all seeds, which truncation pulls to 1, so that fewer are.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgxl_t.networks.condition_input import condition_vectors, make_class_table
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig
from sgxl_t.networks.generators.instance_memory import InstanceMemory
from sgxl_t.networks.layers import FullyConnected, normalize_2nd_moment

FACING = 1.0
"""What truncation pulls the number to that mirrors a picture below 0: its size in the mean of squares."""

AVERAGE_BETA = 0.995
"""Share of the running average of mapped z that stays at each update."""

LR_MULTIPLIER = 0.01
"""The mapping network learns a hundred times slower than the rest."""


def style_width(config: GeneratorConfig, condition: ConditionSpec) -> int:
    """Numbers of one w that layers read: mapped z, the condition's vector and a picture's deviation, where
    there are any."""
    return config.z_dim + (0 if condition.kind == "none" else condition.dim + condition.picture_dim)


class MappingT(nn.Module):
    """z [N, z_dim] and a condition to styles [N, num_ws, w_dim]; w = [mapped z, text_scale * condition], with
    a memory of pictures [mapped z, text_scale * condition, deviation]. With `mirrored` z's first number
    follows."""

    x_avg: Tensor

    def __init__(self, config: GeneratorConfig, condition: ConditionSpec, num_ws: int) -> None:
        """num_ws: styles that the synthesis network takes; all get the same w."""
        super().__init__()
        layers = config.stylegan_t.mapping_layers
        if layers < 1:
            raise ValueError(f"mapping_layers={layers} leaves z unmapped: use at least 1")
        self.condition = condition
        self.embed = make_class_table(condition)
        self.text_scale = config.stylegan_t.text_scale
        self.exaggeration = config.stylegan_t.exaggeration
        self.z_dim, self.num_ws = config.z_dim, num_ws
        self.mirrored = config.stylegan_t.mirrored
        self.w_dim = style_width(config, condition) + self.mirrored
        self.mlp = nn.Sequential(
            OrderedDict(
                (
                    f"fc{index}",
                    FullyConnected(
                        config.z_dim,
                        config.z_dim,
                        act="lrelu" if index < layers - 1 else "linear",
                        lr_multiplier=LR_MULTIPLIER,
                    ),
                )
                for index in range(layers)
            )
        )
        self.register_buffer("x_avg", torch.zeros(config.z_dim))
        self.memory: InstanceMemory | None = None
        if count := config.stylegan_t.instances:
            if condition.picture_dim < 1:
                raise ValueError(
                    f"instances={count} remembers pictures and the condition brings no features of any: use 0"
                )
            self.memory = InstanceMemory(count, condition.dim, condition.picture_dim, config.z_dim)

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        *,
        pictures: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_averages: bool = False,
    ) -> Tensor:
        """Styles [N, num_ws, w_dim] of latents z [N, z_dim] ~ N(0, 1) and condition c (see ConditionSpec).

        pictures: deviations [N, picture_dim] of the captions' own pictures, in place of remembered ones.
        truncation_psi: 1 leaves the styles alone, 0 gives one style per condition, above 1 exaggerates.
        truncation_cutoff: number of leading styles that are truncated; none truncates all.
        update_averages: let the running average of mapped z take in this batch, as training does.
        """
        x = self.mlp(normalize_2nd_moment(z))
        if update_averages:
            with torch.no_grad():
                self.x_avg.lerp_(x.mean(dim=0).to(self.x_avg.dtype), 1 - AVERAGE_BETA)
        w = self._join(x, self.drawn_part(z, c, pictures))
        if self.mirrored:
            w = torch.cat([w, z[:, :1].to(w.dtype)], dim=1)
        if truncation_psi == 1:
            return self._repeat(w, self.num_ws)
        truncated = self.center(c).to(w).expand_as(w).lerp(w, truncation_psi)
        cutoff = self.num_ws if truncation_cutoff is None else min(max(truncation_cutoff, 0), self.num_ws)
        if cutoff == self.num_ws:
            return self._repeat(truncated, self.num_ws)
        return torch.cat([self._repeat(truncated, cutoff), self._repeat(w, self.num_ws - cutoff)], dim=1)

    def center(self, c: Tensor | None = None) -> Tensor:
        """The w that truncation pulls to: [N, w_dim] for conditions c of N samples, [w_dim] without any."""
        vectors = self.condition_part(c)
        if vectors is None:
            return F.pad(self.x_avg, (0, self.mirrored), value=FACING)
        if self.memory is not None:
            vectors = F.pad(vectors, (0, self.condition.picture_dim))
        w = self._join(self.x_avg.expand(len(vectors), -1), vectors)
        return F.pad(w, (0, self.mirrored), value=FACING)

    def condition_part(self, c: Tensor | None) -> Tensor | None:
        """The condition's share of w, text_scale times its vector [N, dim]; None when unconditional."""
        vectors = condition_vectors(self.condition, self.embed, c)
        return vectors if vectors is None or self.text_scale == 1 else vectors * self.text_scale

    def drawn_part(self, z: Tensor, c: Tensor | None, pictures: Tensor | None = None) -> Tensor | None:
        """What layers read [N, D] beside mapped z: the condition's, and with a memory the deviation
        of `pictures`, or of a remembered picture."""
        part = self.condition_part(c)
        if self.memory is None or c is None or part is None:
            return part
        deviations = (1 + self.exaggeration) * self.memory(z, c) if pictures is None else pictures
        return torch.cat([part, deviations.to(part.dtype)], dim=1)

    @staticmethod
    def _join(x: Tensor, vectors: Tensor | None) -> Tensor:
        return x if vectors is None else torch.cat([x, vectors.to(x.dtype)], dim=1)

    @staticmethod
    def _repeat(w: Tensor, count: int) -> Tensor:
        return w.unsqueeze(1).expand(-1, count, -1)
