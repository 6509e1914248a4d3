"""Builds our StyleGAN-XL generators from the descriptions of the stored cases."""

from __future__ import annotations

import torch
from golden_cases import descriptions, state_of, tensors

from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig, StyleGAN3Config, SuperresStage
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.superres import load_stem


def config_of(name: str) -> GeneratorConfig:
    """Configuration of a stem case, or of a head case on top of its stem."""
    ctor = descriptions()[name]["ctor"]
    if "stem" not in ctor:
        return GeneratorConfig(
            img_resolution=ctor["img_resolution"],
            z_dim=ctor["z_dim"],
            stylegan3=StyleGAN3Config(
                w_dim=ctor["w_dim"],
                embed_proj_dim=ctor["z_dim"],
                num_layers=ctor["num_layers"],
                channel_base=ctor["channel_base"],
                channel_max=ctor["channel_max"],
                conv_kernel=ctor["conv_kernel"],
                use_radial_filters=ctor["use_radial_filters"],
            ),
        )
    stem = config_of(ctor["stem"])
    head = SuperresStage(head_layers=ctor["head_layers"], up_factor=ctor["up_factor"])
    sizes = {**vars(stem.stylegan3), "superres": (*stem.stylegan3.superres, head)}
    return GeneratorConfig(
        img_resolution=ctor["img_resolution"], z_dim=stem.z_dim, stylegan3=StyleGAN3Config(**sizes)
    )


def condition_of(name: str) -> ConditionSpec:
    """Class condition with the case's table."""
    ctor = descriptions()[name]["ctor"]
    if "stem" in ctor:
        return condition_of(ctor["stem"])
    rows, dim = ctor["embedding"]
    return ConditionSpec(kind="class", dim=dim, num_classes=rows)


def generator_of(name: str) -> Generator:
    """Generator with the stored state; what a head case does not store comes from its stem."""
    generator = Generator(config_of(name), condition_of(name))
    state = state_of(name)
    missing = set(generator.state_dict()) - set(state)
    if missing:
        load_stem(generator, generator_of(descriptions()[name]["ctor"]["stem"]))
        heads = tuple(f"synthesis.{layer}." for layer in generator.synthesis.head_layer_names)
        assert all(key.startswith(heads) for key in state)
        assert not [key for key in missing if key.startswith(heads)]
    outcome = generator.load_state_dict(state, strict=not missing)
    assert not outcome.unexpected_keys
    return generator.eval()


def labels_of(name: str) -> torch.Tensor:
    """The case's one-hot labels as class numbers."""
    return tensors(name)["c"].argmax(dim=1)
