"""What is built before its weights are looked at is small, whatever a config.json says."""

from dataclasses import asdict, fields, replace

import pytest
import torch

from sgxl_t.model_io.model_folder import ModelInfo, _is_modest
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig, StyleGANTConfig
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.networks.text.text_tower import ClipNetwork, TextTowerConfig
from sgxl_t.networks.text.word_tower import WordNetwork, WordTowerConfig
from sgxl_t.networks.weights.modest import AT_MOST, is_modest, most_of


def at_the_bounds(config, **others):
    """A configuration whose whole numbers are as large as may be."""
    numbers = {one.name: most_of(one.name) for one in fields(config) if one.type == "int"}
    return config(**numbers | others)


SIZES = at_the_bounds(StyleGANTConfig, attention_resolutions=(8, 16, 32, 64, 128, 256))
LARGEST = at_the_bounds(GeneratorConfig, family="stylegan_t", img_channels=3, stylegan_t=SIZES)


def text_generator():
    return build_generator(LARGEST, at_the_bounds(ConditionSpec, kind="text", num_classes=0), seed=0)


def class_generator():
    sizes = replace(LARGEST, stylegan_t=replace(SIZES, attention_resolutions=(), instances=0))
    spec = at_the_bounds(ConditionSpec, kind="class", token_dim=0, picture_dim=0)
    return build_generator(sizes, spec, seed=0)


def text_tower():
    return ClipNetwork(at_the_bounds(TextTowerConfig), None)


def word_tower():
    return WordNetwork(at_the_bounds(WordTowerConfig))


@pytest.mark.parametrize("build", [text_generator, class_generator, text_tower, word_tower])
def test_a_network_at_the_bounds_is_as_small_as_they_say(build):
    with torch.device("meta"):
        network = build()
    taken = sum(one.numel() * one.element_size() for one in [*network.parameters(), *network.buffers()])
    assert AT_MOST / 2 < taken <= AT_MOST


@pytest.mark.parametrize("kind", [StyleGANTConfig, TextTowerConfig, WordTowerConfig])
def test_one_size_beyond_its_bound_is_not_modest(kind):
    sizes = asdict(at_the_bounds(kind))
    assert is_modest(sizes)
    for name, value in sizes.items():
        if isinstance(value, int) and not isinstance(value, bool):
            assert not is_modest(sizes | {name: value + 1}), name
            assert not is_modest(sizes | {name: -value - 1}), name
    assert not is_modest({"layers": list(range(17))})
    assert not is_modest({"inner": {"width": [8, 513]}})


def test_a_model_is_modest_by_the_sizes_of_its_own_family(tmp_path):
    def info(generator):
        return ModelInfo(folder=tmp_path, generator=generator, condition=ConditionSpec())

    assert _is_modest(info(LARGEST))
    assert not _is_modest(info(replace(LARGEST, z_dim=most_of("z_dim") + 1)))
    assert not _is_modest(info(replace(LARGEST, family="stylegan3")))
