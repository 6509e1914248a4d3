"""Registered generators: names, the papers' sizes, and a pass through every small one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden_cases import FOLDER

from sgxl_t.networks.configs import ConditionSpec, SuperresStage
from sgxl_t.networks.generators.registry import build_generator, list_models, model_config, register_model

IMAGENET = ConditionSpec(kind="class", dim=320, num_classes=1000)
SMALL = [*list_models("*-tiny-*"), "sgxl-small-16", "sgt-small-16"]


def shapes_table():
    return json.loads((Path(FOLDER) / "state_shapes_xl_imagenet.json").read_text())


def on_meta(config, condition=IMAGENET):
    with torch.device("meta"):
        return build_generator(config, condition)


def million(generator):
    return sum(parameter.numel() for parameter in generator.parameters()) / 1e6


def with_heads(config, **change):
    stages = tuple(replace(stage, **change) for stage in config.stylegan3.superres)
    return replace(config, stylegan3=replace(config.stylegan3, superres=stages))


@pytest.mark.golden
@pytest.mark.parametrize("name", list(shapes_table()))
def test_golden_state_shapes_xl(name):
    """Names are the official ones; the stored 1024 px network has seven layers in its last head, not five."""
    stored = shapes_table()[name]
    resolution = stored["ctor"]["img_resolution"]
    generator = on_meta(with_heads(model_config(f"sgxl-imagenet-{resolution}"), head_layers=7))
    ours = {key: list(value.shape) for key, value in generator.state_dict().items()}
    assert ours == stored["state"]
    assert {key for key, _ in generator.named_parameters()} == set(stored["parameters"])
    assert generator.num_ws == stored["num_ws"]
    clamps = {layer.spec.name: layer.spec.conv_clamp for layer in generator.synthesis.layers()}
    assert clamps == stored["conv_clamp"]


@pytest.mark.parametrize(
    ("name", "size", "num_ws"),
    [
        ("sgxl-imagenet-16", 101.883, 12),
        ("sgxl-imagenet-256", 233.376, 32),
        ("sgxl-imagenet-1024", 235.800, 40),
    ],
)
def test_imagenet_sizes(name, size, num_ws):
    generator = on_meta(name)
    assert million(generator) == pytest.approx(size, abs=5e-4)
    assert generator.num_ws == num_ws


@pytest.mark.parametrize(("resolution", "size"), [(16, 34.775), (128, 158.741), (512, 168.362)])
def test_sizes_of_the_published_weights(resolution, size):
    """Radial 1x1 stem under separable 3x3 heads."""
    config = with_heads(model_config(f"sgxl-imagenet-{resolution}"), conv_kernel=3, use_radial_filters=False)
    config = replace(config, stylegan3=replace(config.stylegan3, conv_kernel=1, use_radial_filters=True))
    generator = on_meta(config)
    if resolution == 16:  # the two critical layers, which the heads replace, are counted as 3x3
        size -= 2 * 1024 * 1024 * 8 / 1e6
    assert million(generator) == pytest.approx(size, abs=5e-4)


@pytest.mark.parametrize(
    ("resolution", "size", "num_ws"),
    [(16, 19.502, 9), (32, 24.747, 11), (128, 31.830, 15), (256, 34.016, 17)],
)
def test_fewshot_sizes(resolution, size, num_ws):
    generator = on_meta(f"sgxl-fewshot-{resolution}", ConditionSpec())
    assert generator.num_ws == num_ws
    table = 1000 * 320 / 1e6  # stored by the official networks, and counted, though nothing reads it
    assert million(generator) == pytest.approx(size - table, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "conditional", "unconditional", "num_ws"),
    [
        ("sgt-full-64", 975_556_011, 845_791_659, 29),
        ("sgt-full-512", 1_020_497_609, 872_153_801, 50),
        ("sgt-lite-64", 74_556_835, 47_421_859, 21),
        ("sgt-lite-256", 85_703_219, 52_375_091, 31),
    ],
)
def test_stylegan_t_sizes(name, conditional, unconditional, num_ws):
    text = on_meta(name, ConditionSpec(kind="text", dim=768))
    assert sum(parameter.numel() for parameter in text.parameters()) == conditional
    plain = on_meta(name, ConditionSpec())
    assert sum(parameter.numel() for parameter in plain.parameters()) == unconditional
    assert text.num_ws == plain.num_ws == num_ws


def test_every_name_builds_a_checked_configuration():
    for name in list_models():
        assert on_meta(name).img_resolution == int(name.rsplit("-", 1)[1])


@pytest.mark.parametrize("kind", ["class", "text", "none"])
@pytest.mark.parametrize("name", SMALL)
def test_small_models_run_forward_and_backward(name, kind):
    condition = {
        "class": ConditionSpec(kind="class", dim=12, num_classes=5),
        "text": ConditionSpec(kind="text", dim=12),
        "none": ConditionSpec(),
    }[kind]
    generator = build_generator(name, condition, seed=0)
    c = {"class": torch.tensor([1, 4]), "text": torch.randn(2, 12), "none": None}[kind]
    img = generator(
        torch.randn(2, generator.z_dim), c, update_averages=True, rng=torch.Generator().manual_seed(0)
    )
    assert img.shape == (2, 3, generator.img_resolution, generator.img_resolution)
    assert img.dtype == torch.float32
    assert img.std() > 1e-3
    img.square().mean().backward()
    missing = [key for key, parameter in generator.named_parameters() if parameter.grad is None]
    assert not missing
    assert all(parameter.grad.isfinite().all() for parameter in generator.parameters())
    center = generator.mapping.center(c)
    assert center.shape == ((generator.w_dim,) if kind == "none" else (2, generator.w_dim))


def test_a_seed_fixes_the_parameters_and_spares_the_global_stream():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = build_generator("sgxl-tiny-16", ConditionSpec(), seed=5)
    assert torch.rand(1) == expected
    second = build_generator("sgxl-tiny-16", ConditionSpec(), seed=5)
    other = build_generator("sgxl-tiny-16", ConditionSpec(), seed=6)
    for key, value in first.state_dict().items():
        torch.testing.assert_close(value, second.state_dict()[key], rtol=0, atol=0)
    assert not torch.equal(first.synthesis.input.weight, other.synthesis.input.weight)


def test_names_are_listed_by_pattern_in_order_of_resolution():
    assert list_models("sgt-lite-*") == ["sgt-lite-64", "sgt-lite-128", "sgt-lite-256", "sgt-lite-512"]
    assert set(list_models("sgxl-imagenet-*")) == {f"sgxl-imagenet-{2**power}" for power in range(4, 11)}
    assert list_models("nothing-*") == []


def test_unknown_and_double_names_are_refused():
    with pytest.raises(ValueError, match="sgxl-imagenet-256"):
        model_config("sgxl-imagnet-256")
    with pytest.raises(ValueError, match="another name"):
        register_model("sgxl-tiny-16")(lambda: model_config("sgxl-tiny-16"))


def test_configurations_of_a_chain_grow_one_head_at_a_time():
    stem, grown = model_config("sgxl-tiny-16"), model_config("sgxl-tiny-32")
    assert stem.stylegan3 == replace(grown.stylegan3, superres=())
    assert grown.stylegan3.superres == (SuperresStage(head_layers=4),)
