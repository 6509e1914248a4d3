"""What the layers of a file say about themselves, and the configuration that gives exactly these layers.

Kernel, filters, padding, clamp and names belong to the layer in published files: a 16 px stem of 1x1 kernels
and radial filters lies under 3x3 heads with separable ones, and one index is free between them. Nothing is
guessed from the name of a network. The search below tries stems and heads against the stored layers, one
stage after the other, and whatever it finds is compared with every stored number afterwards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from sgxl_t.files.pickles.tree import Module
from sgxl_t.files.pickles.values import RefusedError, shown
from sgxl_t.networks.configs import GeneratorConfig, StyleGAN3Config, SuperresStage
from sgxl_t.networks.generators.schedule_xl import UP_FACTORS, LayerSpec, all_layers, grow, stem_layers

MAX_LAYERS, MAX_RESOLUTION = 128, 4096
LAYER_KEYS = (
    "index",
    "in_channels",
    "out_channels",
    "in_size",
    "out_size",
    "in_sampling_rate",
    "out_sampling_rate",
    "out_cutoff",
    "is_critically_sampled",
)
"""Numbers that tell two layers apart while stages are searched; all others are compared at the end."""
TOLERANCE = 1e-6
"""Relative difference up to which two cutoffs are the same number."""


@dataclass(frozen=True)
class StoredLayer:
    """One layer as the file describes it: our numbers, and what we derive from them as it was stored."""

    spec: LayerSpec
    derived: dict[str, tuple[int, ...]]
    """padding, up_factor, down_factor, up_taps and down_taps, where the file has them."""

    def check(self, ours: LayerSpec) -> None:
        """Raises RefusedError where our layer would compute something else than the stored one."""
        for name, stored in vars(self.spec).items():
            if not _same(getattr(ours, name), stored):
                raise RefusedError(
                    f"stores {self.spec.name}.{name}={stored} where the alias-free schedule gives "
                    f"{getattr(ours, name)}"
                )
        for name, wanted in self.derived.items():
            value = getattr(ours, name)
            values = value * 2 if name == "padding" else (value,)
            if values != wanted:
                raise RefusedError(
                    f"stores {self.spec.name}.{name}={list(wanted)} where its sizes give {list(values)}"
                )


def read_layers(synthesis: Module) -> list[StoredLayer]:
    """The layers in the order of `layer_names`, which is the only authority on it."""
    names = synthesis.get("layer_names")
    if not isinstance(names, list) or not 3 <= len(names) <= MAX_LAYERS:
        raise RefusedError(f"holds {shown(names)} as {synthesis.where}.layer_names, where layer names belong")
    return [_read_layer(synthesis, name) for name in names]


def _read_layer(synthesis: Module, name: object) -> StoredLayer:
    match = re.fullmatch(r"L([0-9]{1,4})_[0-9]{1,5}_[0-9]{1,5}", name) if isinstance(name, str) else None
    if match is None:
        raise RefusedError(f"holds the layer name {shown(name)} in {synthesis.where}")
    layer = synthesis.child(match[0])
    tensors = layer.own_tensors()
    shape = tensors["weight"].shape if "weight" in tensors else ()
    if len(shape) != 4 or shape[2] != shape[3]:
        raise RefusedError(
            f"holds {layer.where}.weight with shape {list(shape)}, where a square kernel belongs"
        )
    if layer.has("conv_kernel") and layer.whole("conv_kernel") != shape[2]:
        raise RefusedError(f"stores a conv_kernel in {layer.where} that its weight does not have")
    down = tensors.get("down_filter")
    spec = LayerSpec(
        index=int(match[1]),
        in_channels=layer.whole("in_channels"),
        out_channels=layer.whole("out_channels"),
        in_size=layer.side("in_size"),
        out_size=layer.side("out_size"),
        in_sampling_rate=layer.whole("in_sampling_rate"),
        out_sampling_rate=layer.whole("out_sampling_rate"),
        in_cutoff=layer.number("in_cutoff"),
        out_cutoff=layer.number("out_cutoff"),
        in_half_width=layer.number("in_half_width"),
        out_half_width=layer.number("out_half_width"),
        is_torgb=layer.flag("is_torgb"),
        is_critically_sampled=layer.flag("is_critically_sampled"),
        kernel=shape[2],
        use_radial_filters=down is not None and len(down.shape) == 2,
        filter_size=layer.whole("filter_size", 6),
        lrelu_upsampling=layer.whole("lrelu_upsampling", 2),
        conv_clamp=layer.number("conv_clamp") if layer.has("conv_clamp") else None,
    )
    if spec.name != match[0]:
        raise RefusedError(f"calls a layer {match[0]} whose sizes make it {spec.name}")
    return StoredLayer(spec, _derived(layer))


def _derived(layer: Module) -> dict[str, tuple[int, ...]]:
    """Factors, taps and padding as stored; older files may lack some."""
    found: dict[str, tuple[int, ...]] = {}
    for name in ("up_factor", "down_factor", "up_taps", "down_taps", "padding"):
        if layer.has(name):
            value = layer.get(name)
            values = tuple(value) if isinstance(value, list | tuple) else (value,)
            if not all(type(number) is int for number in values):
                raise RefusedError(
                    f"holds {shown(value)} as {layer.where}.{name}, where whole numbers belong"
                )
            found[name] = values
    return found


def fit_config(synthesis: Module, layers: list[StoredLayer]) -> GeneratorConfig:
    """The configuration whose schedule gives the stored layers; sizes of the mapping network come later."""
    stored = [layer.spec for layer in layers]
    resolution, colours = stored[-1].out_size, stored[-1].out_channels
    try:
        for sizes in _stem_sizes(synthesis, stored):
            first = GeneratorConfig(img_resolution=resolution, img_channels=colours, stylegan3=sizes)
            for config in _stems(first, stored):
                kept, head = all_layers(config)
                for layer, ours in zip(layers, kept + head, strict=True):
                    layer.check(ours)
                return config
    except (ArithmeticError, TypeError, ValueError):
        # Bands that are negative or beyond all measure.
        raise RefusedError(f"stores bands in {synthesis.where} that cannot be built") from None
    raise RefusedError("has layers that no stem with heads of the alias-free schedule gives")


def _stem_sizes(synthesis: Module, stored: list[LayerSpec]) -> Iterator[StyleGAN3Config]:
    """Settings that all stages share. The stored base and limit of channels come first; where a file lacks
    them, or they are of another stage, the paper's and other powers of two are tried.
    """
    first, last = stored[0], stored[-1]
    critical = sum(layer.is_critically_sampled for layer in stored) - 1
    if (
        not 8 <= last.out_size <= MAX_RESOLUTION
        or first.out_cutoff <= 0
        or not 1 <= critical < len(stored) - 1
    ):
        raise RefusedError(f"stores sizes in {synthesis.where} that no generator has")
    plain = StyleGAN3Config()
    width = max(layer.in_channels for layer in stored)
    bases = [65536, *(2**power for power in range(20, 6, -1))]
    if synthesis.has("channel_base"):
        bases.insert(0, synthesis.whole("channel_base"))
    limits = dict.fromkeys([synthesis.whole("channel_max", width), width])
    for base, limit in product(bases, limits):
        yield StyleGAN3Config(
            channel_base=base,
            channel_max=limit,
            num_critical=critical,
            first_cutoff=_near(first.out_cutoff, plain.first_cutoff),
            first_stopband=_near(
                synthesis.number("first_stopband", plain.first_stopband), plain.first_stopband
            ),
            last_stopband_rel=_near(
                2 * (last.out_cutoff + last.out_half_width) / last.out_size, plain.last_stopband_rel
            ),
            margin_size=(first.in_size - first.in_sampling_rate) // 2,
            output_scale=synthesis.number("output_scale", 0.25),
            filter_size=first.filter_size,
            lrelu_upsampling=first.lrelu_upsampling,
        )


def _stems(config: GeneratorConfig, stored: list[LayerSpec]) -> Iterator[GeneratorConfig]:
    """Every chain of a stem and heads that gives the stored layers; normally one."""
    own = stored[0]
    critical = config.stylegan3.num_critical
    resolution = config.img_resolution
    while resolution >= 8:
        for count in range(critical + 1, len(stored)):
            sizes = replace(
                config.stylegan3,
                num_layers=count,
                conv_kernel=own.kernel,
                use_radial_filters=own.use_radial_filters,
                conv_clamp=own.conv_clamp,
            )
            layers = stem_layers(sizes, resolution, config.img_channels)
            yield from _chains(replace(config, stylegan3=sizes), layers, resolution, stored)
        resolution //= 2


def _chains(
    config: GeneratorConfig, layers: list[LayerSpec], resolution: int, stored: list[LayerSpec]
) -> Iterator[GeneratorConfig]:
    """Configurations that continue from the layers of a stage at `side` to all stored ones."""
    if resolution == config.img_resolution:
        if _alike(layers, stored):
            yield config
        return
    kept = [layer for layer in layers if not layer.is_critically_sampled]
    if len(kept) >= len(stored) or not _alike(kept, stored[: len(kept)]):
        return
    sizes = config.stylegan3
    for factor in UP_FACTORS:
        if resolution * factor > config.img_resolution:
            return
        for count in range(sizes.num_critical + 1, len(stored) - len(kept)):
            stage = replace(_stage(stored[len(kept)], sizes), head_layers=count, up_factor=factor)
            kept_now, head = grow(layers, stage, sizes, resolution * factor, config.img_channels)
            longer = replace(config, stylegan3=replace(sizes, superres=(*sizes.superres, stage)))
            yield from _chains(longer, kept_now + head, resolution * factor, stored)


def _stage(layer: LayerSpec, stem: StyleGAN3Config) -> SuperresStage:
    """The settings of a stage that its first layer shows; none where they are the stem's."""
    radial = layer.use_radial_filters
    return SuperresStage(
        conv_kernel=None if layer.kernel == stem.conv_kernel else layer.kernel,
        use_radial_filters=None if radial == stem.use_radial_filters else radial,
        conv_clamp=layer.conv_clamp,
    )


def _alike(ours: list[LayerSpec], stored: list[LayerSpec]) -> bool:
    """Whether two runs of layers have the same places, widths and bands."""
    return len(ours) == len(stored) and all(
        _same(getattr(mine, name), getattr(theirs, name))
        for mine, theirs in zip(ours, stored, strict=True)
        for name in LAYER_KEYS
    )


def _same(ours: object, stored: object) -> bool:
    if isinstance(ours, float) and isinstance(stored, float):
        return math.isclose(ours, stored, rel_tol=TOLERANCE)
    return ours == stored


def _near(stored: float, usual: float) -> float:
    """The usual value where the stored one differs from it by rounding only."""
    return usual if math.isclose(stored, usual, rel_tol=TOLERANCE) else stored
