"""Frozen half of the projected discriminator: augment, feature networks, random mixing of maps.

Sauer et al. 2021, "Projected GANs Converge Faster", sections 3.2 and 3.3; Sauer et al. 2022, "StyleGAN-XL",
section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgxl_t.networks.backbones.feature_networks import FeatureNetwork, resize
from sgxl_t.networks.configs import DiscriminatorConfig, ProjectedConfig
from sgxl_t.networks.discriminators.features import FrozenFeatures
from sgxl_t.networks.discriminators.vit_adapter import VitAdapter, adapter_channels
from sgxl_t.ops.diff_augment import diff_augment


class CrossScaleMix(nn.Module):
    """Convolution of one level's sum of own map and upsampled deeper map."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H, W]."""
        return self.out_conv(x)


class RandomProjector(nn.Module):
    """Random frozen mixing of four feature maps across channels (CCM) and scales (CSM).

    Deeper levels are wider: cout, 2 cout, 4 cout, 8 cout after CCM where `expand` is set, half of that after
    CSM (the shallowest keeps cout). The paper upsamples each level by two before its 1x1 convolution; both
    are linear and the bilinear weights add up to one, so the convolution comes first here: equal results at
    a quarter of the work. Official state names `layer{l}_ccm` and `layer{l}_csm.out_conv`.
    """

    def __init__(self, in_channels: Sequence[int], config: ProjectedConfig) -> None:
        """in_channels: of the four feature maps, shallow to deep."""
        super().__init__()
        self.proj_type, self.final_upsample = config.proj_type, config.final_upsample
        mixed = [config.cout * (2**level if config.expand else 1) for level in range(len(in_channels))]
        if config.proj_type == 0:
            self.channels = tuple(in_channels)
            return
        for level, (cin, cout) in enumerate(zip(in_channels, mixed, strict=True)):
            self.add_module(f"layer{level}_ccm", nn.Conv2d(cin, cout, 1))
        self.channels = tuple(mixed)
        if config.proj_type == 2:
            self.channels = (mixed[0], *mixed[:-1])
            for level in range(len(mixed)):
                self.add_module(
                    f"layer{level}_csm", CrossScaleMix(mixed[level], self.channels[level], config.csm_kernel)
                )
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Four maps [N, C_l, H_l, W_l], shallow to deep -> four maps [N, channels[l], ...].

        With CSM and `final_upsample` a result has twice the side of its input, else the same side.
        """
        if self.proj_type == 0:
            return maps
        mixed = [self.get_submodule(f"layer{level}_ccm")(x) for level, x in enumerate(maps)]
        if self.proj_type == 1:
            return mixed
        return self._mix_scales(mixed)

    def _mix_scales(self, mixed: list[Tensor]) -> list[Tensor]:
        """From deep to shallow: add what comes from below, mix, upsample."""
        results: list[Tensor] = []
        below: Tensor | None = None
        for level in reversed(range(len(mixed))):
            x = self.get_submodule(f"layer{level}_csm")(
                mixed[level] if below is None else mixed[level] + below
            )
            if level == 0 and not self.final_upsample:
                return [x, *results]
            size = mixed[level - 1].shape[-2:] if level else torch.Size(2 * side for side in x.shape[-2:])
            below = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
            results.insert(0, below if self.final_upsample else x)
        return results


class Projection(nn.Module):
    """What stands between one feature network and its heads: adapter (transformers), mixing, fixed scale."""

    scale: Tensor

    def __init__(self, network: FeatureNetwork, config: ProjectedConfig) -> None:
        super().__init__()
        channels = network.channels
        self.adapter: VitAdapter | None = None
        if network.kind == "vit":
            channels = adapter_channels(network.channels[-1])
            self.adapter = VitAdapter(network.channels[-1], channels)
        self.scratch = RandomProjector(channels, config)
        self.channels = self.scratch.channels
        self.normalize = config.normalize_features
        self.register_buffer("scale", torch.ones(len(channels)))

    def mix(self, maps: list[Tensor]) -> list[Tensor]:
        """Raw maps [N, C, H, W] of the network -> mixed maps."""
        return self.scratch(maps if self.adapter is None else self.adapter(maps))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Raw maps [N, C, H, W] of the network -> maps for the heads, of unit scale where asked for."""
        maps = self.mix(maps)
        if not self.normalize:
            return maps
        # In the maps' own type: mixed types take a slow path on a CPU.
        return [x * factor.to(x.dtype) for x, factor in zip(maps, self.scale.unbind(), strict=True)]


class ProjectedFeatures(FrozenFeatures):
    """Images to mixed feature maps of every network. Holds nothing trainable and stays in eval mode.

    Per network: DiffAugment at the images' own size, [-1, 1] to [0, 1], resizing, normalisation, feature
    maps, adapter, mixing. (The paper normalises before it resizes; the two commute.) Gradients flow to the
    images.
    """

    def __init__(
        self, networks: Sequence[FeatureNetwork], config: DiscriminatorConfig, *, seed: int = 0
    ) -> None:
        """networks: any number, each augmented by itself. seed: of the random adapters and mixing layers."""
        super().__init__()
        if not networks:
            raise ValueError("the projected discriminator was given no feature network: name at least one")
        size = config.projected.input_size
        self.policy, self.input_size = config.diff_augment, None if size == "auto" else size
        for network in networks:
            network.precision = config.precision
            network.trim()
        self.networks = nn.ModuleList(networks)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projections = nn.ModuleList(Projection(network, config.projected) for network in networks)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> ProjectedFeatures:
        """Stays in eval mode whatever is asked: the features must not move."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> ProjectedFeatures:
        """Stays frozen whatever is asked."""
        return super().requires_grad_(False)

    def forward(self, images: Tensor, rng: torch.Generator | None = None) -> list[list[Tensor]]:
        """images [N, 3, R, R] in [-1, 1] -> per network four maps [N, C_l, H_l, W_l], shallow to deep.

        rng: of the augmentation, drawn for every network and image; needed unless the policy is empty.
        """
        return [
            projection(network.maps(self.prepare(network, self.augment(images, rng))))
            for network, projection in self.pairs()
        ]

    def pairs(self) -> list[tuple[FeatureNetwork, Projection]]:
        """Each network with what follows it."""
        return list(zip(self.networks, self.projections, strict=True))  # type: ignore[arg-type]

    def augment(self, images: Tensor, rng: torch.Generator | None) -> Tensor:
        """Differentiable augmentation, drawn per image from `rng`."""
        return diff_augment(images, self.policy, generator=rng) if self.policy else images

    def prepare(self, network: FeatureNetwork, images: Tensor) -> Tensor:
        """images [N, 3, R, R] in [-1, 1] -> [N, 3, S, S] in [0, 1], S being the size that `network` sees.

        With `input_size` a transformer always sees that size and a CNN at least that, though a CNN that was
        trained on smaller images sees none enlarged beyond those; without, a CNN sees the images as they are
        and a transformer the size it was trained on.
        """
        size = images.shape[-1]
        if network.fixed_size or (self.input_size is None and network.kind == "vit"):
            size = network.input_size or size
        elif self.input_size is not None:
            least = min(self.input_size, network.input_size or self.input_size)
            size = self.input_size if network.kind == "vit" else max(size, least)
        return resize((images + 1) / 2, size)

    @torch.no_grad()
    def level_sizes(self, img_resolution: int) -> list[tuple[int, ...]]:
        """Per network the sides of its four maps for images of `img_resolution`; runs one black image."""
        sizes = []
        for network, projection in self.pairs():
            image = torch.zeros(1, 3, img_resolution, img_resolution, device=projection.scale.device)
            maps = projection(network.maps(self.prepare(network, image)))
            sizes.append(tuple(x.shape[-1] for x in maps))
        return sizes

    @property
    def level_channels(self) -> list[tuple[int, ...]]:
        """Per network the channels of its four maps."""
        return [projection.channels for _, projection in self.pairs()]

    @torch.no_grad()
    def calibrate(self, images: Tensor, batch: int = 32) -> None:
        """Measures the standard deviation of every map on real images, where normalize_features asks for it.

        images: [N, 3, R, R] in [-1, 1]; every process must pass the same. Not augmented.
        """
        for network, projection in self.pairs():
            if not projection.normalize:
                continue
            sums = projection.scale.new_zeros(3, len(projection.scale), dtype=torch.float64)
            for chunk in images.to(projection.scale.device).split(batch):
                for level, x in enumerate(projection.mix(network.maps(self.prepare(network, chunk)))):
                    x = x.double()
                    sums[:, level] += torch.stack([x.sum(), x.square().sum(), x.new_tensor(x.numel())])
            mean, square = sums[0] / sums[2], sums[1] / sums[2]
            projection.scale.copy_((square - mean.square()).clamp(min=1e-12).rsqrt())

    def projection_state(self) -> dict[str, Tensor]:
        """Adapters, mixing layers and scales: all that a run must keep besides the networks' references."""
        return {name: value.detach().clone() for name, value in self.projections.state_dict().items()}

    def load_projection_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `projection_state` gave; RuntimeError where names or shapes differ."""
        self.projections.load_state_dict(state)
