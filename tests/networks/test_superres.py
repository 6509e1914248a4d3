"""Growing a StyleGAN-XL generator by heads."""

from dataclasses import replace

import pytest
import torch
from golden_cases import descriptions
from xl_golden import condition_of, config_of

from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig, StyleGAN3Config, SuperresStage
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.superres import StemView, freeze_for_stage, load_stem, stage_parameter_names

CLASSES = ConditionSpec(kind="class", dim=12, num_classes=5)
STEM = GeneratorConfig(
    img_resolution=16,
    z_dim=16,
    stylegan3=StyleGAN3Config(w_dim=24, num_layers=4, channel_base=128, channel_max=8, margin_size=4),
)


def grown(config, **stage):
    head = SuperresStage(**{"head_layers": 4, **stage})
    return replace(
        config,
        img_resolution=config.img_resolution * head.up_factor,
        stylegan3=replace(config.stylegan3, superres=(*config.stylegan3.superres, head)),
    )


def built(config, condition=CLASSES, seed=0):
    torch.manual_seed(seed)
    return Generator(config, condition)


@pytest.mark.parametrize("name", ["xl_superres32", "xl_superres64"])
def test_newest_head_has_the_stored_names(name):
    with torch.device("meta"):
        generator = Generator(config_of(name), condition_of(name))
    assert generator.synthesis.head_layer_names == descriptions()[name]["head_layer_names"]


def test_a_stage_trains_its_head_and_the_input_as_stored():
    case = descriptions()["xl_loss_gmain_superres"]
    generator = Generator(config_of("xl_superres32"), condition_of("xl_superres32"))
    assert set(stage_parameter_names(generator)) == set(case["params_with_grad"])
    freeze_for_stage(generator)
    assert {key for key, p in generator.named_parameters() if not p.requires_grad} == set(
        case["params_without_grad"]
    )
    without_input = stage_parameter_names(generator, train_input=False)
    assert not [key for key in without_input if key.startswith("synthesis.input.")]


def test_a_stem_trains_whole():
    stem = built(STEM)
    freeze_for_stage(stem)
    assert all(parameter.requires_grad for parameter in stem.parameters())
    assert len(stage_parameter_names(stem)) == len(list(stem.parameters()))


def test_kept_layers_mapping_averages_and_input_come_from_the_stem():
    stem = built(STEM)
    stem.mapping.w_avg.normal_()
    generator = built(grown(STEM), seed=1)
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    load_stem(generator, stem)
    theirs = stem.state_dict()
    heads = tuple(f"synthesis.{name}." for name in generator.synthesis.head_layer_names)
    for key, value in generator.state_dict().items():
        torch.testing.assert_close(value, before[key] if key.startswith(heads) else theirs[key])
    z, c = torch.randn(2, 16), torch.tensor([1, 2])
    assert generator(z, c).shape == (2, 3, 32, 32)


def test_the_own_input_can_stay():
    stem, generator = built(STEM), built(grown(STEM), seed=1)
    before = generator.synthesis.input.weight.detach().clone()
    load_stem(generator, stem, copy_input=False)
    torch.testing.assert_close(generator.synthesis.input.weight.detach(), before)


@pytest.mark.parametrize("factor", [2, 4])
def test_heads_stack(factor):
    two = grown(grown(STEM), up_factor=factor)
    generator = built(two)
    load_stem(generator, built(grown(STEM), seed=1))
    assert generator(torch.randn(1, 16), torch.tensor([0])).shape == (1, 3, 32 * factor, 32 * factor)


def test_stems_that_do_not_fit_are_refused():
    generator = built(grown(STEM))
    wider = replace(STEM, stylegan3=replace(STEM.stylegan3, channel_max=10))
    cases = [
        (built(wider), "plus one head"),
        (built(STEM, ConditionSpec()), "one condition"),
        (built(replace(STEM, z_dim=8)), "stem's sizes"),
        (built(GeneratorConfig(family="stylegan_t", img_resolution=8)), "stylegan3"),
    ]
    for stem, words in cases:
        with pytest.raises(ValueError, match=words):
            load_stem(generator, stem)


@pytest.mark.parametrize("heads", [1, 2])
def test_a_watched_stem_shows_the_latents_that_the_generator_saw(heads):
    configs = [STEM]
    for _ in range(heads):
        configs.append(grown(configs[-1]))
    stem, generator = built(configs[-2], seed=1), built(configs[-1], seed=2)
    load_stem(generator, stem)
    view = StemView(stem)
    view.watch(generator)
    z, c = torch.randn(3, 16), torch.tensor([0, 4, 2])
    for part in (slice(0, 3), slice(1, 3)):
        with torch.no_grad():  # recording gradients takes other, equal, forms of operators
            generator(z[part], c[part])
            assert torch.equal(view.images(), stem(z[part], c[part]))
    assert not view.images().requires_grad
