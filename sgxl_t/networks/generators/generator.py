"""The generator: mapping and synthesis of either family behind one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sgxl_t.files.choices import add_choice
from sgxl_t.networks.condition_input import check_condition
from sgxl_t.networks.conditioning import Conditioning, as_conditioning
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig, check_channels
from sgxl_t.networks.generators.mapping_t import MappingT, style_width
from sgxl_t.networks.generators.mapping_xl import MappingXL
from sgxl_t.networks.generators.schedule_xl import check_schedule
from sgxl_t.networks.generators.synthesis_t import SynthesisT
from sgxl_t.networks.generators.synthesis_xl import SynthesisXL


def check_generator(config: GeneratorConfig) -> None:
    """Raises ValueError where the sizes of a generator cannot work; called before anything is built."""
    resolution = config.img_resolution
    if resolution < 8 or resolution & (resolution - 1):
        raise ValueError(f"img_resolution={resolution} is not possible: use a power of two from 8 up")
    if config.z_dim < 1:
        raise ValueError(f"z_dim={config.z_dim} must be positive: use 64")
    check_channels(config.img_channels)
    if config.family == "stylegan3":
        check_schedule(config)
    elif config.family not in GENERATORS:
        raise ValueError(f"generator family {config.family!r} is unknown: use {' or '.join(GENERATORS)}")


BuildGenerator = Callable[[GeneratorConfig, ConditionSpec], tuple[Any, Any]]
GENERATORS: dict[str, BuildGenerator] = {}
"""Family to what makes its synthesis and mapping network."""


def register_generator(family: str) -> Callable[[BuildGenerator], BuildGenerator]:
    """Decorator: a function of sizes and condition that returns (synthesis, mapping) becomes a family.

    The synthesis maps ws [N, num_ws, w_dim] to images and has `num_ws`; MappingT and MappingXL go with any.
    """

    def register(build: BuildGenerator) -> BuildGenerator:
        add_choice("sgxl_t.networks.configs", "GeneratorFamily", family)
        GENERATORS[family] = build
        return build

    return register


def _stylegan3(config: GeneratorConfig, condition: ConditionSpec) -> tuple[SynthesisXL, MappingXL]:
    synthesis = SynthesisXL(config)
    return synthesis, MappingXL(config, condition, synthesis.num_ws)


def _stylegan_t(config: GeneratorConfig, condition: ConditionSpec) -> tuple[SynthesisT, MappingT]:
    synthesis = SynthesisT(config, style_width(config, condition), condition.token_dim)
    return synthesis, MappingT(config, condition, synthesis.num_ws)


GENERATORS |= {"stylegan3": _stylegan3, "stylegan_t": _stylegan_t}


class Generator(nn.Module):
    """Latents and conditions to images; StyleGAN-XL's or StyleGAN-T's networks, whichever the config names.

    First values of the parameters come from torch's global stream, as in every nn.Module; `build_generator`
    seeds it.
    """

    mapping: MappingXL | MappingT
    synthesis: SynthesisXL | SynthesisT

    def __init__(self, config: GeneratorConfig, condition: ConditionSpec) -> None:
        """config and condition are kept as attributes: together they rebuild this generator."""
        super().__init__()
        check_generator(config)
        check_condition(condition)
        self.config, self.condition = config, condition
        self.z_dim, self.img_resolution = config.z_dim, config.img_resolution
        self.synthesis, self.mapping = GENERATORS[config.family](config, condition)
        self.num_ws, self.w_dim = self.synthesis.num_ws, self.mapping.w_dim

    def recompute_from(self, resolution: int | None) -> None:
        """Layers of the synthesis whose results have at least this resolution save only their inputs and are
        computed once more in backward passes; None, the default, saves everything.
        """
        self.synthesis.recompute_from = resolution

    @property
    def attends(self) -> bool:
        """Whether it attends to the tokens of captions, and so needs a Conditioning with tokens."""
        return isinstance(self.synthesis, SynthesisT) and self.synthesis.attends

    def forward(
        self,
        z: Tensor,
        cond: Conditioning | Tensor | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_averages: bool = False,
        noise_mode: Literal["random", "const", "none"] = "random",
        rng: torch.Generator | None = None,
        pl_noise: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Images [N, img_channels, R, R], float32, about [-1, 1], of latents z [N, z_dim] ~ N(0, 1).

        cond: what `Condition.encode` gives; bare int64 labels [N], text features [N, dim] of unit length or
        None (see ConditionSpec) do as well, unless the generator attends to tokens.
        truncation_psi, truncation_cutoff, update_averages: see the mapping networks.
        noise_mode, rng: noise of stylegan_t and the stream it is drawn from; stylegan3 has none.
        pl_noise: N(0, 1) noise shaped like the images and divided by R. When given, (images, path lengths
        [N]) is returned: the RMS over styles of the length of d(sum(images * pl_noise)) / d(ws) (StyleGAN2,
        section 3.2). Computed here, so that wrappers which hook forward see one call; needs gradients
        enabled.
        """
        cond = as_conditioning(cond)
        shown = {} if cond.pictures is None else {"pictures": cond.pictures}
        ws = self.mapping(
            z,
            cond.c,
            **shown,
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
            update_averages=update_averages,
        )
        if pl_noise is not None and not ws.requires_grad:
            ws = ws.detach().requires_grad_()
        images = self.synthesis(ws, noise_mode=noise_mode, rng=rng, tokens=cond.tokens)
        if pl_noise is None:
            return images
        (slopes,) = torch.autograd.grad((images * pl_noise).sum(), ws, create_graph=True)
        return images, slopes.square().sum(dim=2).mean(dim=1).sqrt()
