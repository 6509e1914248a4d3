"""Named generator configurations: the papers' sizes, and small ones for tests and demonstrations.

Names are family-data-resolution: sgxl is StyleGAN-XL, sgt is StyleGAN-T.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from sgxl_t.networks.configs import (
    ConditionSpec,
    GeneratorConfig,
    StyleGAN3Config,
    StyleGANTConfig,
    SuperresStage,
)
from sgxl_t.networks.generators.generator import Generator

ConfigFunction = Callable[[], GeneratorConfig]

_MODELS: dict[str, ConfigFunction] = {}

STEM_RESOLUTION = 16
"""Every chain of the StyleGAN-XL paper starts here."""


def register_model(name: str) -> Callable[[ConfigFunction], ConfigFunction]:
    """Decorator: the function's configuration becomes known under `name`."""

    def register(function: ConfigFunction) -> ConfigFunction:
        if name in _MODELS:
            raise ValueError(f"model {name!r} is registered already: choose another name")
        _MODELS[name] = function
        return function

    return register


def list_models(pattern: str = "*") -> list[str]:
    """Registered names that fit a shell pattern such as "sgt-lite-*", by name, then by resolution."""

    def order(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]

    return sorted(fnmatch.filter(_MODELS, pattern), key=order)


def model_config(name: str) -> GeneratorConfig:
    """Configuration of a registered model; ValueError with the nearest names for an unknown one."""
    if name not in _MODELS:
        near = ", ".join(difflib.get_close_matches(name, _MODELS, n=3, cutoff=0.4)) or ", ".join(
            list_models()
        )
        raise ValueError(f"model {name!r} is not registered: did you mean one of {near}")
    return _MODELS[name]()


def build_generator(
    config: GeneratorConfig | str, condition: ConditionSpec, *, seed: int | None = None
) -> Generator:
    """Generator with fresh parameters.

    config: a configuration or a registered name. seed: fixes the first parameters and leaves torch's global
    stream as it was; none draws them from that stream. Inside `torch.device("meta")` nothing is allocated.
    """
    if isinstance(config, str):
        config = model_config(config)
    if seed is None:
        return Generator(config, condition)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Generator(config, condition)


def _chain(
    sizes: StyleGAN3Config, head_layers: int, last_head_layers: int, resolution: int
) -> GeneratorConfig:
    """A stem at 16 px and heads of factor two up to `resolution`; heads at 1024 px may be shorter."""
    stages = []
    size = 2 * STEM_RESOLUTION
    while size <= resolution:
        stages.append(SuperresStage(head_layers=last_head_layers if size == 1024 else head_layers))
        size *= 2
    return GeneratorConfig(
        family="stylegan3",
        img_resolution=resolution,
        stylegan3=replace(sizes, superres=tuple(stages)),
    )


def _stylegan_t(sizes: StyleGANTConfig, resolution: int) -> GeneratorConfig:
    return GeneratorConfig(family="stylegan_t", img_resolution=resolution, stylegan_t=sizes)


_PAPER_XL = StyleGAN3Config()
_CURATED_XL = StyleGAN3Config(channel_base=32768, channel_max=512, num_layers=7)
_HALF_XL = StyleGAN3Config(channel_base=32768, channel_max=512)
_TINY_XL = StyleGAN3Config(
    w_dim=64, embed_proj_dim=32, num_layers=4, channel_base=512, channel_max=32, margin_size=4
)
_LITE_T = StyleGANTConfig(channel_base=32768, channel_max=512, num_res_blocks=2)
_FULL_T = StyleGANTConfig(channel_base=65536, channel_max=2048, num_res_blocks=3)
_TINY_T = StyleGANTConfig(channel_base=512, channel_max=32, num_res_blocks=1, layer_scale_init=0.1)
_SMALL_T = StyleGANTConfig(channel_base=3072, channel_max=128, num_res_blocks=1, layer_scale_init=0.1)

for _side in (16, 32, 64, 128, 256, 512, 1024):
    # StyleGAN-XL, section 4: 39 layers at 1024 px, whose head has five layers instead of seven.
    register_model(f"sgxl-imagenet-{_side}")(partial(_chain, _PAPER_XL, 7, 5, _side))
    register_model(f"sgxl-ffhq-{_side}")(partial(_chain, _PAPER_XL, 7, 5, _side))
    # A few hundred to a few thousand images, such as Pokemon.
    register_model(f"sgxl-fewshot-{_side}")(partial(_chain, _CURATED_XL, 4, 4, _side))

for _side in (16, 32):
    register_model(f"sgxl-cifar10-{_side}")(partial(_chain, _HALF_XL, 7, 5, _side))
    register_model(f"sgxl-tiny-{_side}")(partial(_chain, _TINY_XL, 4, 4, _side))

for _side in (64, 128, 256, 512):
    # StyleGAN-T, section 4 and table 1: the ablation's size and the final one.
    register_model(f"sgt-lite-{_side}")(partial(_stylegan_t, _LITE_T, _side))
    register_model(f"sgt-full-{_side}")(partial(_stylegan_t, _FULL_T, _side))

for _side in (16, 32, 64):
    register_model(f"sgt-tiny-{_side}")(partial(_stylegan_t, _TINY_T, _side))
    register_model(f"sgt-small-{_side}")(partial(_stylegan_t, _SMALL_T, _side))


@register_model("sgxl-small-16")
def _small_xl_16() -> GeneratorConfig:
    """One stem for embedded images of 16 px, trained whole in minutes on a CPU."""
    sizes = StyleGAN3Config(
        w_dim=128, embed_proj_dim=64, num_layers=5, channel_base=1024, channel_max=64, margin_size=4
    )
    return GeneratorConfig(family="stylegan3", img_resolution=16, stylegan3=sizes)


@register_model("sgxl-small-32")
def _small_xl_32() -> GeneratorConfig:
    """One stem for embedded images of 32 px; no growing."""
    sizes = StyleGAN3Config(
        w_dim=128, embed_proj_dim=64, num_layers=7, channel_base=2048, channel_max=96, margin_size=4
    )
    return GeneratorConfig(family="stylegan3", img_resolution=32, stylegan3=sizes)
