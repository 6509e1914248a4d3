"""The networks on the way to a model, and which of their layers do the same work."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sgxl_t.networks.generators.registry import model_config
from sgxl_t.networks.generators.schedule_xl import LayerSpec, all_layers, stem_resolution

Cost = tuple[object, ...]
"""All of a layer that its time and arithmetic depend on."""


@dataclass(frozen=True)
class GrowthStage:
    """One network of the stages: what it keeps of the one before, and what it adds."""

    resolution: int
    kept: list[LayerSpec]
    added: list[LayerSpec]


def stages_of(model: str) -> list[GrowthStage]:
    """The networks on the way to a model, smallest first; ValueError for one without alias-free layers."""
    config = model_config(model)
    if config.family != "stylegan3":
        raise ValueError(
            f"--stages {model} has no alias-free layers: use a model whose name begins with sgxl"
        )
    heads = config.stylegan3.superres
    resolution, stages = stem_resolution(config), []
    for count in range(len(heads) + 1):
        resolution *= heads[count - 1].up_factor if count else 1
        sizes = replace(config.stylegan3, superres=heads[:count])
        stages.append(
            GrowthStage(resolution, *all_layers(replace(config, img_resolution=resolution, stylegan3=sizes)))
        )
    return stages


def cost(spec: LayerSpec) -> Cost:
    """Equal for layers that do the same work; only cutoffs and place differ."""
    filters = spec.up_factor, spec.down_factor, spec.up_taps, spec.down_taps, spec.use_radial_filters
    channels = spec.in_channels, spec.out_channels, spec.kernel
    return (*channels, spec.in_size, spec.out_size, *filters, spec.is_torgb, spec.conv_clamp is None)
