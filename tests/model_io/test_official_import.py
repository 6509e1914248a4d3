"""Files in the official layout become model folders that make the same pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from official_pickles import Persistent, official_content, official_generator, write_official
from xl_golden import config_of, generator_of

from sgxl_t.files.pickles.storages import Storage, StoredTensor
from sgxl_t.files.pickles.tree import Module
from sgxl_t.files.pickles.values import PickledObject
from sgxl_t.model_io.published.file import read_official
from sgxl_t.model_io.published.importer import import_generator
from sgxl_t.model_io.published.layers import fit_config, read_layers
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig, StyleGAN3Config, SuperresStage
from sgxl_t.networks.generators.registry import build_generator, model_config

TINY = StyleGAN3Config(
    w_dim=16, embed_proj_dim=8, num_layers=5, channel_base=128, channel_max=12, margin_size=4
)
RADIAL = replace(TINY, conv_kernel=1, use_radial_filters=True, conv_clamp=None)
STRAIGHT = SuperresStage(head_layers=4, conv_kernel=3, use_radial_filters=False)
CLASSES = ConditionSpec(kind="class", dim=6, num_classes=10)
NETWORKS = {
    "stem": (GeneratorConfig(img_resolution=16, z_dim=8, stylegan3=TINY), CLASSES),
    "radial stem": (GeneratorConfig(img_resolution=16, z_dim=8, stylegan3=RADIAL), CLASSES),
    "heads on a radial stem": (
        GeneratorConfig(img_resolution=64, z_dim=8, stylegan3=replace(RADIAL, superres=(STRAIGHT, STRAIGHT))),
        CLASSES,
    ),
    "head of factor four, unconditional": (
        GeneratorConfig(
            img_resolution=32,
            z_dim=8,
            stylegan3=replace(TINY, embed_proj_dim=64, superres=(SuperresStage(head_layers=5, up_factor=4),)),
        ),
        ConditionSpec(),
    ),
}


def network(name):
    """A generator none of whose tensors has its first value."""
    generator = build_generator(*NETWORKS[name], seed=3).eval()
    rng = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for key, value in generator.state_dict().items():
            if not key.endswith("transform"):
                value.add_(torch.randn(value.shape, generator=rng) * 0.05)
    generator.synthesis.layers()[0].magnitude_ema.fill_(1.5)
    return generator


def imported(path):
    with path.open("rb") as source:
        return import_generator(read_official(path, source))


def pictures(generator):
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(2, generator.z_dim, generator=rng)
    c = (
        torch.tensor([0, generator.condition.num_classes - 1])
        if generator.condition.kind == "class"
        else None
    )
    with torch.no_grad():
        return generator(z, c, truncation_psi=0.6)


@pytest.mark.parametrize(("name", "protocol"), list(zip(NETWORKS, [2, 3, 4, 5], strict=True)))
def test_imported_generator_makes_the_same_pictures(tmp_path, name, protocol):
    generator = network(name)
    ours = imported(write_official(tmp_path / "n.pkl", official_content(generator), protocol))
    assert ours.config == generator.config
    assert ours.condition == generator.condition
    state = generator.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())
    assert torch.equal(pictures(ours), pictures(generator))


@pytest.mark.golden
@pytest.mark.parametrize("name", ["xl_stem16", "xl_superres32", "xl_superres64", "xl_superres64_up4"])
def test_golden_networks_come_through_a_file_unchanged(tmp_path, name):
    generator = generator_of(name)
    ours = imported(write_official(tmp_path / "n.pkl", official_content(generator)))
    assert ours.synthesis.layer_names == generator.synthesis.layer_names
    assert ours.synthesis.head_layer_names == generator.synthesis.head_layer_names
    assert ours.config == config_of(name)
    assert torch.equal(pictures(ours), pictures(generator))


def as_records(value):
    """What reading a file gives, made without a file: tensors of the given shapes without numbers."""
    if isinstance(value, Persistent):
        return PickledObject(value.meta["class_name"], as_records(value.meta["state"]))
    if isinstance(value, torch.nn.Module):
        return PickledObject("Embedding", as_records({**vars(value)}))
    if isinstance(value, torch.Tensor):
        return StoredTensor(Storage(None, torch.float32, value.numel()), 0, tuple(value.shape), ())
    if isinstance(value, dict):
        return {key: as_records(item) for key, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value


FULL_SIZE = [
    *((f"sgxl-imagenet-{side}", True) for side in (16, 32, 64, 128, 256, 512, 1024)),
    ("sgxl-imagenet-128", False),
    ("sgxl-cifar10-32", False),
    ("sgxl-fewshot-1024", True),
]


@pytest.mark.parametrize(("name", "radial"), FULL_SIZE)
def test_layers_of_full_size_give_back_their_configuration(name, radial):
    config = model_config(name)
    if radial:
        heads = tuple(
            replace(stage, conv_kernel=3, use_radial_filters=False) for stage in config.stylegan3.superres
        )
        sizes = replace(
            config.stylegan3, conv_kernel=1, use_radial_filters=True, conv_clamp=None, superres=heads
        )
        config = replace(config, stylegan3=sizes)
    with torch.device("meta"):
        generator = build_generator(config, ConditionSpec())
        synthesis = Module(as_records(official_generator(generator)), "G_ema").child("synthesis")
    layers = read_layers(synthesis)
    assert fit_config(synthesis, layers) == config
    assert [layer.spec.name for layer in layers] == generator.synthesis.layer_names
    synthesis.state |= {"channel_base": 2**17, "channel_max": 2048}
    assert fit_config(synthesis, layers).stylegan3.superres == config.stylegan3.superres
    del synthesis.state["channel_base"], synthesis.state["channel_max"], synthesis.state["first_stopband"]
    again = fit_config(synthesis, layers)
    assert again.stylegan3.superres == config.stylegan3.superres
