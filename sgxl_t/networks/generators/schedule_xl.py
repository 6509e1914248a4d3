"""Layer schedule of the alias-free generator: cutoffs, sampling rates, sizes and channels of every layer.

StyleGAN3, section 3.2 and appendix G.1; stacking of super-resolution heads: StyleGAN-XL, section 3.3. Pure
numbers. Cutoffs, stopbands and rates are counted per picture side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sgxl_t.networks.configs import GeneratorConfig, StyleGAN3Config, SuperresStage

UP_FACTORS = (2, 4, 8, 16)
SMALLEST_STEM = 8


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """Everything that one synthesis layer needs to know about its place."""

    index: int
    in_channels: int
    out_channels: int
    in_size: int
    out_size: int
    in_sampling_rate: int
    out_sampling_rate: int
    in_cutoff: float
    out_cutoff: float
    in_half_width: float
    out_half_width: float
    is_torgb: bool
    is_critically_sampled: bool
    kernel: int
    use_radial_filters: bool
    filter_size: int
    lrelu_upsampling: int
    conv_clamp: float | None

    @property
    def name(self) -> str:
        """State name, as in the official networks."""
        return f"L{self.index}_{self.out_size}_{self.out_channels}"

    @property
    def tmp_sampling_rate(self) -> int:
        """Rate at which the nonlinearity acts."""
        return max(self.in_sampling_rate, self.out_sampling_rate) * (
            1 if self.is_torgb else self.lrelu_upsampling
        )

    @property
    def up_factor(self) -> int:
        """From the input's rate to the nonlinearity's."""
        return self.tmp_sampling_rate // self.in_sampling_rate

    @property
    def down_factor(self) -> int:
        """From the nonlinearity's rate to the output's."""
        return self.tmp_sampling_rate // self.out_sampling_rate

    @property
    def up_taps(self) -> int:
        """Length of the up filter; 1 where nothing is filtered."""
        return self._taps(self.up_factor)

    @property
    def down_taps(self) -> int:
        """Length of the down filter; 1 where nothing is filtered."""
        return self._taps(self.down_factor)

    def _taps(self, factor: int) -> int:
        """filter_size samples of the coarser grid, counted on the finer one; a single tap filters nothing."""
        filtered = factor > 1 and not self.is_torgb
        return factor * self.filter_size if filtered else 1

    @property
    def padding(self) -> tuple[int, int]:
        """Pixels before and after each axis of the upsampled grid that give out_size; negative ones crop."""
        total = (self.out_size - 1) * self.down_factor + 1
        total -= (self.in_size + self.kernel - 1) * self.up_factor
        total += self.up_taps + self.down_taps - 2
        low = (total + self.up_factor) // 2
        return low, total - low


@dataclass(frozen=True)
class Bands:
    """Cutoff, stopband and rate along a run of layers, with the half width of each transition band."""

    cutoffs: list[float]
    stopbands: list[float]
    rates: list[int]

    @property
    def half_widths(self) -> list[float]:
        """Half of the transition band, widened to the Nyquist frequency where there is room."""
        bands = zip(self.cutoffs, self.stopbands, self.rates, strict=True)
        return [max(stopband, rate / 2) - cutoff for cutoff, stopband, rate in bands]


def geometric_bands(
    count: int, resolution: int, first_cutoff: float, first_stopband: float, config: StyleGAN3Config
) -> Bands:
    """Bands of `count` layers and their ToRGB, growing geometrically up to the last `num_critical` ones."""
    last_cutoff = resolution / 2
    last_stopband = last_cutoff * config.last_stopband_rel
    shares = [min(i / (count - config.num_critical), 1) for i in range(count + 1)]
    cutoffs = [first_cutoff * (last_cutoff / first_cutoff) ** share for share in shares]
    stopbands = [first_stopband * (last_stopband / first_stopband) ** share for share in shares]
    # The small slack keeps a stopband that is a power of two up to rounding from doubling the rate.
    rates = [2 ** math.ceil(math.log2(min(2 * stopband, resolution)) - 1e-9) for stopband in stopbands]
    return Bands(cutoffs, stopbands, rates)


def sizes_and_channels(
    bands: Bands, resolution: int, img_channels: int, config: StyleGAN3Config
) -> tuple[list[int], list[int]]:
    """Side of each layer's output (margin included except at the end) and its feature maps."""
    sizes = [rate + 2 * config.margin_size for rate in bands.rates]
    sizes[-2:] = [resolution, resolution]
    base = config.channel_base / 2
    channels = [round(min(base / cutoff, config.channel_max)) for cutoff in bands.cutoffs]
    channels[-1] = img_channels
    return sizes, channels


def chain(
    bands: Bands,
    sizes: list[int],
    channels: list[int],
    first_index: int,
    config: StyleGAN3Config,
    stage: SuperresStage,
) -> list[LayerSpec]:
    """Layers between neighbouring entries of the lists; the first keeps its own rate, size, channels."""
    last = len(sizes) - 1
    specs = []
    for i in range(last + 1):
        source, is_torgb, critical = max(i - 1, 0), i == last, i >= last - config.num_critical
        specs.append(
            LayerSpec(
                index=first_index + i,
                in_channels=channels[source],
                out_channels=channels[i],
                in_size=sizes[source],
                out_size=sizes[i],
                in_sampling_rate=bands.rates[source],
                out_sampling_rate=bands.rates[i],
                in_cutoff=bands.cutoffs[source],
                out_cutoff=bands.cutoffs[i],
                in_half_width=bands.half_widths[source],
                out_half_width=bands.half_widths[i],
                is_torgb=is_torgb,
                is_critically_sampled=critical,
                kernel=1 if is_torgb else stage.conv_kernel or config.conv_kernel,
                use_radial_filters=(
                    config.use_radial_filters
                    if stage.use_radial_filters is None
                    else stage.use_radial_filters
                )
                and not critical,
                filter_size=config.filter_size,
                lrelu_upsampling=config.lrelu_upsampling,
                conv_clamp=stage.conv_clamp,
            )
        )
    return specs


def stem_layers(config: StyleGAN3Config, resolution: int, img_channels: int = 3) -> list[LayerSpec]:
    """Layers of a stem at `resolution`, ToRGB last."""
    bands = geometric_bands(config.num_layers, resolution, config.first_cutoff, config.first_stopband, config)
    sizes, channels = sizes_and_channels(bands, resolution, img_channels, config)
    return chain(bands, sizes, channels, 0, config, SuperresStage(conv_clamp=config.conv_clamp))


def grow(
    layers: list[LayerSpec],
    stage: SuperresStage,
    config: StyleGAN3Config,
    resolution: int,
    img_channels: int = 3,
) -> tuple[list[LayerSpec], list[LayerSpec]]:
    """What stays of `layers` when a head of `stage` replaces the critically sampled ones, and that head."""
    kept = [layer for layer in layers if not layer.is_critically_sampled]
    last = kept[-1]
    stopband = last.out_cutoff + last.out_half_width
    bands = geometric_bands(stage.head_layers, resolution, last.out_cutoff, stopband, config)
    # The first layer of the head keeps the rate and the feature maps; the second one changes them.
    bands.rates[0] = last.out_sampling_rate
    sizes, channels = sizes_and_channels(bands, resolution, img_channels, config)
    channels[0] = last.out_channels
    # Official names leave one number free after the kept layers.
    return kept, chain(bands, sizes, channels, len(kept) + 1, config, stage)


def stem_resolution(config: GeneratorConfig) -> int:
    """Side of the stem's picture: the final side divided by all up_factors."""
    return config.img_resolution // math.prod(stage.up_factor for stage in config.stylegan3.superres)


def all_layers(config: GeneratorConfig) -> tuple[list[LayerSpec], list[LayerSpec]]:
    """Kept layers and the newest head, each in order; without heads all layers count as the newest."""
    resolution = stem_resolution(config)
    kept: list[LayerSpec] = []
    head = stem_layers(config.stylegan3, resolution, config.img_channels)
    for stage in config.stylegan3.superres:
        resolution *= stage.up_factor
        kept, head = grow(kept + head, stage, config.stylegan3, resolution, config.img_channels)
    return kept, head


def check_schedule(config: GeneratorConfig) -> None:
    """Raises ValueError where the sizes of a StyleGAN3 generator contradict each other."""
    sizes = config.stylegan3
    side: float = config.img_resolution
    for stage in sizes.superres:
        if stage.up_factor not in UP_FACTORS:
            raise ValueError(f"up_factor={stage.up_factor} is not supported: use 2, 4, 8 or 16")
        if stage.head_layers <= sizes.num_critical:
            raise ValueError(
                f"head_layers={stage.head_layers} leaves no layer beside the {sizes.num_critical} critically "
                f"sampled ones: use {sizes.num_critical + 1} or more"
            )
        side /= stage.up_factor
    if side < SMALLEST_STEM:
        raise ValueError(
            f"img_resolution={config.img_resolution} divided by all up_factors gives a stem of "
            f"{side:g} pixels: the stem needs {SMALLEST_STEM} or more, so use a larger picture or fewer heads"
        )
    if sizes.num_layers <= sizes.num_critical:
        raise ValueError(
            f"num_layers={sizes.num_layers} leaves no layer beside the {sizes.num_critical} critically "
            f"sampled ones: use {sizes.num_critical + 1} or more"
        )
    for kernel in (sizes.conv_kernel, *(stage.conv_kernel for stage in sizes.superres)):
        if kernel not in (None, 1, 3):
            raise ValueError(f"conv_kernel={kernel} is not supported: use 3 (T) or 1 (R)")
