"""Sizes and switches of every network, as frozen dataclasses: what `config.json` beside the weights holds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from sgxl_t.networks.backbones.precision import Precision
from sgxl_t.ops.diff_augment import parse_policy

ConditionKind = Literal["class", "text", "none"]
"""Form in which a condition enters a network."""
ConditionName = Literal["class", "text", "none"]
GeneratorFamily = Literal["stylegan3", "stylegan_t"]
DiscriminatorFamily = Literal["projected", "dino"]
"""Choices of a run; `register_condition`, `register_generator` and `register_discriminator` add to them."""


@dataclass(frozen=True, kw_only=True)
class ConditionSpec:
    """What enters a network as condition `c`.

    class: `c` is an int64 tensor [N] of labels, looked up in a trainable table [num_classes, dim].
    text: `c` is a float tensor [N, dim] of unit length. none: `c` is None.
    """

    kind: ConditionKind = "none"
    """Kind of the condition."""
    dim: int = 0
    """Width of one condition vector (table row or text feature); 0 when unconditional."""
    num_classes: int = 0
    """Rows of the class table; 0 unless kind is class."""
    scale: float = 1.0
    """Factor on text features where they enter a network."""
    token_dim: int = 0
    """Width of the tokens that a text condition brings beside `c`; 0 where it brings none."""
    picture_dim: int = 0
    """Width of the features of pictures that a generator remembers beside captions; 0 where it does not."""
    registered: str = ""
    """Name of a registered condition; empty for class, text and none themselves."""

    @property
    def of_heads(self) -> ConditionSpec:
        """What the discriminator's heads are told: features of the picture, if any, follow the caption's."""
        return replace(self, dim=self.dim + self.picture_dim, picture_dim=0)

    @property
    def cond(self) -> str:
        """What a run calls it."""
        return self.registered or self.kind


@dataclass(frozen=True, kw_only=True)
class SuperresStage:
    """One super-resolution head on top of a stem (StyleGAN-XL, section 3.3)."""

    head_layers: int = 7
    """Layers of the head without ToRGB; the last two are critically sampled."""
    up_factor: int = 2
    """Output pixels per input pixel along one side: 2, 4, 8 or 16."""
    conv_kernel: int | None = None
    """Side of the head's convolution kernels; none takes the stem's."""
    use_radial_filters: bool | None = None
    """Radially symmetric down filters in the head; none takes the stem's."""
    conv_clamp: float | None = 256.0
    """Limit of activations in the head; none disables."""


@dataclass(frozen=True, kw_only=True)
class StyleGAN3Config:
    """Alias-free generator (StyleGAN3-T / -R) with StyleGAN-XL's sizes."""

    w_dim: int = 512
    """Width of one style vector."""
    mapping_layers: int = 2
    """Fully connected layers from z to w."""
    embed_proj_dim: int = 64
    """Width of the projected condition that is concatenated to z."""
    num_layers: int = 10
    """Layers of the stem without ToRGB."""
    num_critical: int = 2
    """Critically sampled layers at the end of the stem and of each head."""
    channel_base: int = 65536
    """Feature maps of a layer are min(channel_base / 2 / cutoff, channel_max)."""
    channel_max: int = 1024
    """Upper limit of feature maps in any layer."""
    first_cutoff: float = 2.0
    """Cutoff frequency of the first layer, cycles per image."""
    first_stopband: float = 2.0**2.1
    """Stopband of the first layer, cycles per image."""
    last_stopband_rel: float = 2.0**0.3
    """Stopband of the last layer relative to its cutoff."""
    margin_size: int = 10
    """Pixels kept outside the image on each side of inner layers."""
    output_scale: float = 0.25
    """Factor on the last layer's output."""
    conv_kernel: int = 3
    """Side of the convolution kernels: 3 for T, 1 for R."""
    use_radial_filters: bool = False
    """Radially symmetric down filters in layers that are not critically sampled (R)."""
    filter_size: int = 6
    """Taps of a low-pass filter per unit of resampling."""
    lrelu_upsampling: int = 2
    """Oversampling around the leaky ReLU."""
    conv_clamp: float | None = 256.0
    """Limit of activations; none disables."""
    superres: tuple[SuperresStage, ...] = ()
    """Heads stacked on the stem, in order; the stem's resolution follows from img_resolution."""


@dataclass(frozen=True, kw_only=True)
class StyleGANTConfig:
    """Residual text generator of StyleGAN-T."""

    mapping_layers: int = 2
    """Fully connected layers from z to the latent half of w."""
    channel_base: int = 32768
    """Feature maps at resolution r are min(channel_base // r, channel_max)."""
    channel_max: int = 512
    """Upper limit of feature maps in any block."""
    num_res_blocks: int = 2
    """Pairs of (plain, residual) layers per block."""
    layer_scale_init: float = 1e-5
    """First value of the learned scale of residual branches."""
    norm_groups: int = 32
    """Groups of the group normalisation; lowered to a divisor where a block has fewer channels."""
    conv_clamp: float | None = 256.0
    """Limit of activations; none disables."""
    use_noise: bool = True
    """Add learned amounts of noise after convolutions; small networks misuse it and draw speckles."""
    text_scale: float = 1.0
    """Factor on the condition vector inside w; 1 is the paper, sqrt(dim) gives it unit variance."""
    instances: int = 0
    """Pictures that the generator remembers, such as 8192: it is told what the very pictures that it is
    compared with differ by from what captions let expect, and a seed draws that of one that suits the caption
    (IC-GAN, Casanova et al. 2021). 0 conditions it on captions alone, as the paper."""
    exaggeration: float = 0.0
    """Share by which differences that a seed draws are made larger than remembered: more kinds among the
    seeds of a caption, for a little less of what it says. In training as in sampling."""
    mirrored: bool = False
    """Mirror every other seed's picture: for data whose things face either way, of which the network then has
    to learn one. The last number of w says which."""
    attention_resolutions: tuple[int, ...] = ()
    """Sides of the blocks, such as (8, 16), whose maps also attend to the caption's tokens; empty for none,
    as the paper. Starts without effect, so a trained network can go on with it."""


def check_channels(img_channels: int) -> None:
    """ValueError unless images can have so many channels: 3 (colour) or 1 (gray)."""
    if img_channels not in (1, 3):
        raise ValueError(f"img_channels={img_channels} is not possible: use 3 for colour or 1 for gray")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Everything that rebuilds a generator."""

    family: GeneratorFamily = "stylegan3"
    """Which synthesis network makes the picture."""
    img_resolution: int = 32
    """Side of the square output in pixels; a power of two."""
    img_channels: int = 3
    """Channels of the output: 3 for colour, 1 for gray pictures."""
    z_dim: int = 64
    """Width of the latent input."""
    stylegan3: StyleGAN3Config = field(default_factory=StyleGAN3Config)
    """Sizes used when family is stylegan3."""
    stylegan_t: StyleGANTConfig = field(default_factory=StyleGANTConfig)
    """Sizes used when family is stylegan_t."""

    def check(self) -> None:
        """Ranges of a run's generator; ValueError with the value, the rule and the way out."""
        resolution = self.img_resolution
        if resolution < 8 or resolution & (resolution - 1):
            raise ValueError(
                f"generator.img_resolution={resolution} is no power of two of at least 8: "
                "use 16, 32, 64, 128, 256, 512 or 1024"
            )
        check_channels(self.img_channels)


@dataclass(frozen=True, kw_only=True)
class ProjectedConfig:
    """Multi-scale heads on randomly mixed features (Projected GAN; StyleGAN-XL, section 3.1)."""

    proj_type: Literal[0, 1, 2] = 2
    """0 raw features, 1 random channel mixing (CCM), 2 channel and scale mixing (CCM + CSM)."""
    cout: int = 64
    """Channels of the shallowest mixed map; deeper ones double when expand is set."""
    expand: bool = True
    """Double the mixed channels from level to level."""
    csm_kernel: int = 1
    """Side of the cross-scale convolutions, odd: 1 in the release, 3 mixes neighbours (small networks)."""
    final_upsample: bool = True
    """Upsample every mixed map by two as in the paper; false keeps the maps' own sizes (small networks)."""
    normalize_features: bool = False
    """Divide each mixed map by its standard deviation on the first real images (small local networks)."""
    head_width: int | None = None
    """Channels inside the heads; none takes the paper's table by size."""
    end_size: int = 8
    """Side of the map before the last convolution of a head."""
    cmap_dim: int = 64
    """Width of the condition projection."""
    unconditional: bool = False
    """Heads add a logit of the picture alone to the projection on its condition (Miyato & Koyama 2018,
    equation 3); false projects only, as the paper."""
    input_size: int | Literal["auto"] | None = 224
    """Images are resized to this side before the feature networks; none keeps their own size. auto does as
    well, unless `auto:` becomes published networks, which bring a side that the machine can afford."""


@dataclass(frozen=True, kw_only=True)
class DinoConfig:
    """One-dimensional heads on the tokens of a vision transformer (StyleGAN-T, section 3.2)."""

    taps: tuple[int, ...] = ()
    """Blocks, counted from 0, whose outputs feed a head; the embedded patches feed one more. Empty takes the
    ends of the four quarters: 2, 5, 8 and 11 of 12 blocks, as the paper."""
    kernel_size: int = 9
    """Width of the heads' second convolution over tokens."""
    cmap_dim: int = 64
    """Width of the condition projection."""
    batch_group: int = 8
    """Images per group of the local batch normalisation."""
    input_size: int | None = None
    """Side of the images that the transformer sees, a multiple of its patch; none takes what it was trained
    on: 224 for DINO, 518 for DINOv2 (five times the tokens of 224), 256 for DINOv3. A published transformer
    in place of `auto:vit` brings a smaller one on a CPU."""
    crop_probability: float = 0.5
    """Share of calls that see a native-size crop when images are larger than the network's input."""
    crop_per_sample: bool = False
    """Draw for every image by itself whether and where it is cropped; false draws once per call, as the
    paper."""


DEFAULT_FEATURES = {
    "projected": ("auto:cnn", "auto:vit"),
    "dino": ("timm:vit_small_patch16_224.dino",),
}
"""Feature networks of each discriminator family where none are named."""


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Everything that rebuilds a discriminator around its frozen feature networks."""

    family: DiscriminatorFamily = "projected"
    """Which heads look at the features."""
    features: tuple[str, ...] = ()
    """Frozen feature networks by reference; dino takes one transformer, projected any number. Empty takes
    auto:cnn and auto:vit for projected, StyleGAN-T's timm:vit_small_patch16_224.dino for dino."""
    text_scale: float = 1.0
    """Factor on text features before the heads project on them: 1 is the paper; sqrt(dim) gives them unit
    variance, without which heads on a small CLIP need long to become confident."""
    diff_augment: str = "color,translation,cutout"
    """Differentiable augmentations before every feature network, comma separated; empty for none."""
    precision: Precision = "auto"
    """Of the products of frozen feature networks (and of a guiding classifier or CLIP), alike in every phase:
    auto follows the launch's mixed precision where the processor gains by it, fp32 never lowers it, bf16
    lowers it also in a float32 launch. Mixing layers and heads always follow the launch."""
    projected: ProjectedConfig = field(default_factory=ProjectedConfig)
    """Sizes used when family is projected."""
    dino: DinoConfig = field(default_factory=DinoConfig)
    """Sizes used when family is dino."""

    def __post_init__(self) -> None:
        if not self.features:
            object.__setattr__(self, "features", DEFAULT_FEATURES.get(self.family, ()))

    def check(self) -> None:
        """Ranges; ValueError with the value, the rule and the way out."""
        parse_policy(self.diff_augment)
        kernel = self.projected.csm_kernel
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"discriminator.projected.csm_kernel={kernel} has no middle: use 1 or 3")
