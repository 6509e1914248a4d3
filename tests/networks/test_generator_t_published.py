"""StyleGAN-T at its published sizes: names and shapes, and numbers of a network filled by recipe."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from official_names_t import official_generator_shapes_t, text_tower_from_official_t
from torch import Tensor

from sgxl_t.model_io.published.generator_t import generator_name_t, generator_state_from_official_t
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig, StyleGANTConfig
from sgxl_t.networks.generators.generator import Generator

TEXT = ConditionSpec(kind="text", dim=768)
NONE = ConditionSpec()
FULL = StyleGANTConfig(channel_base=65536, channel_max=2048, num_res_blocks=3)
LITE = StyleGANTConfig(channel_base=32768, channel_max=512, num_res_blocks=2)
SMALL = StyleGANTConfig(channel_base=16384, channel_max=256, num_res_blocks=1)


def meta(config: GeneratorConfig, condition: ConditionSpec) -> Generator:
    with torch.device("meta"):
        return Generator(config, condition)


def fingerprint(shapes: dict[str, tuple[int, ...]]) -> str:
    lines = "".join(f"{name} {list(shapes[name])}\n" for name in sorted(shapes))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


# (sizes, resolution): fingerprint of names and shapes with text and without, parameters with text, styles.
PUBLISHED = [
    (FULL, 64, "c7b49e5ece3d6f99", "763a627c3d36f59d", 975_556_011, 29),
    (FULL, 256, "642dd8cf49c00110", "a0792d9b07ddc643", 1_016_436_671, 43),
    (FULL, 512, "87861842a6b88102", "488cb3a09fa0c2a4", 1_020_497_609, 50),
    (FULL, 1024, "cf90e529e4ad7b9e", "47f73a35c5756813", 1_022_233_171, 57),
    (LITE, 64, "1e44c8a9c6fabbc0", "ef01620a6dd1d961", 74_556_835, 21),
    (LITE, 256, "73aec0ca855d5f29", "330c0664a71a1140", 85_703_219, 31),
    (LITE, 512, "6ddda2cab8156aec", "7c0080ae9de20906", 87_044_859, 36),
    (LITE, 1024, "b16567ff6e3f5c53", "9fc8c6cb15c0c404", 87_660_387, 41),
    (SMALL, 64, "c9fc32067207c5d3", "ba039a2c281ddc42", 16_170_395, 13),
    (SMALL, 256, "30e8b23aa3ce3fa7", "554f00213242a405", 19_308_455, 19),
]


@pytest.mark.parametrize(("sizes", "resolution", "text", "plain", "parameters", "num_ws"), PUBLISHED)
def test_names_shapes_and_counts_are_the_published_ones(
    sizes: StyleGANTConfig, resolution: int, text: str, plain: str, parameters: int, num_ws: int
) -> None:
    config = GeneratorConfig(family="stylegan_t", img_resolution=resolution, stylegan_t=sizes)
    network = meta(config, TEXT)
    assert fingerprint(official_generator_shapes_t(network)) == text
    assert fingerprint(official_generator_shapes_t(meta(config, NONE))) == plain
    assert sum(value.numel() for value in network.parameters()) == parameters
    assert network.synthesis.num_ws == num_ws


@pytest.mark.parametrize("key", ["full64", "full512", "lite64", "lite256", "lite512"])
def test_names_and_shapes_equal_the_stored_table(key: str) -> None:
    entry = json.loads((Path(__file__).parents[1] / "golden" / "state_shapes_t.json").read_text())[key]
    sizes = StyleGANTConfig(
        **{k: v for k, v in entry["ctor"]["synthesis_kwargs"].items() if k != "architecture"}
    )
    config = GeneratorConfig(
        family="stylegan_t", img_resolution=entry["ctor"]["img_resolution"], stylegan_t=sizes
    )
    network = meta(config, TEXT)
    named = {generator_name_t(name): tuple(shape) for name, shape in entry["state"].items()}
    named.pop(None)
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == named
    assert {name for name, _ in network.named_parameters()} == set(entry["parameters"])
    assert official_generator_shapes_t(network) == {k: tuple(v) for k, v in entry["state"].items()}


def test_official_state_sheds_filters_and_text_tower() -> None:
    state = {
        "synthesis.b8.resample_filter": torch.tensor([1.0, 3, 3, 1]).outer(torch.tensor([1.0, 3, 3, 1])) / 64,
        "mapping.clip.model.text_projection": torch.ones(2, 2),
        "mapping.x_avg": torch.zeros(8),
    }
    assert list(generator_state_from_official_t(state)) == ["mapping.x_avg"]
    assert list(text_tower_from_official_t(state)) == ["text_projection"]
    with pytest.raises(ValueError, match="resample_filter is not the filter"):
        generator_state_from_official_t({"synthesis.b8.resample_filter": torch.ones(4, 4) / 16})


def fill_by_recipe(network: Generator) -> None:
    """Every tensor from NumPy's legacy generator, seeded by its place among the published names."""
    shapes = official_generator_shapes_t(network)
    state = network.state_dict()
    for index, name in enumerate(sorted(shapes)):
        if name not in state or name.endswith("transform"):
            continue
        values = np.random.RandomState(1000 + index).randn(int(np.prod(shapes[name]))).astype(np.float32)
        filled = torch.from_numpy(values).reshape(shapes[name])
        state[name].copy_(filled * 100 if "mapping.mlp." in name else filled)


def measured(image: Tensor) -> list[float]:
    return [image.mean().item(), image.std().item(), image.abs().max().item()]


@pytest.fixture(scope="module")
def filled() -> tuple[Generator, Tensor, Tensor]:
    sizes = StyleGANTConfig(channel_base=2048, channel_max=64, num_res_blocks=1)
    network = Generator(GeneratorConfig(family="stylegan_t", img_resolution=64, stylegan_t=sizes), TEXT)
    fill_by_recipe(network)
    z = torch.from_numpy(np.random.RandomState(0).randn(2, 64).astype(np.float32))
    c = np.random.RandomState(1).randn(2, 768)
    c = torch.from_numpy((c / np.linalg.norm(c, axis=1, keepdims=True)).astype(np.float32))
    return network, z, c


@pytest.mark.golden
def test_golden_recipe_mapping(filled: tuple[Generator, Tensor, Tensor]) -> None:
    network, z, c = filled
    with torch.no_grad():
        w = network.mapping(z, c)
        truncated = network.mapping(z, c, truncation_psi=0.7)
    assert w.shape == (2, 13, 832)
    assert measured(w) == pytest.approx([0.013796, 0.470047, 4.550113], abs=5e-6)
    assert w[1, 0, 59:63].tolist() == pytest.approx([1.630765, 0.674207, 1.059362, 0.449057], abs=5e-6)
    assert w[1, 5, 64:68].tolist() == pytest.approx([-0.077728, -0.013395, -0.000633, 0.026510], abs=5e-6)
    assert measured(truncated) == pytest.approx([0.011619, 0.338289, 3.052655], abs=5e-6)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("psi", "noise_mode", "statistics", "pixels"),
    [
        (1.0, "const", [5.352656, 7.657564, 68.721313], [15.474683, 12.509926, -6.888866]),
        (0.7, "const", [3.499660, 7.241205, 56.273392], [12.856804, 9.899891, -6.000021]),
        (1.0, "none", [6.437656, 7.374404, 45.385330], [12.643023, 11.515871, -6.680800]),
    ],
)
def test_golden_recipe_image(
    filled: tuple[Generator, Tensor, Tensor],
    psi: float,
    noise_mode: str,
    statistics: list[float],
    pixels: list[float],
) -> None:
    network, z, c = filled
    with torch.no_grad():
        ws = network.mapping(z, c, truncation_psi=psi)
        image = network.synthesis(ws, noise_mode=noise_mode)
    assert measured(image) == pytest.approx(statistics, abs=2e-5 * statistics[2])
    assert image[0, :, 10, 20].tolist() == pytest.approx(pixels, abs=2e-5 * statistics[2])
