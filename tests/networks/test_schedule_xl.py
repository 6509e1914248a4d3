"""Numbers of the alias-free layer schedule."""

from dataclasses import replace

import pytest
from golden_cases import descriptions
from xl_golden import config_of

from sgxl_t.networks.configs import GeneratorConfig, StyleGAN3Config, SuperresStage
from sgxl_t.networks.generators.generator import check_generator
from sgxl_t.networks.generators.registry import model_config
from sgxl_t.networks.generators.schedule_xl import all_layers, geometric_bands, grow, stem_layers

SUBCASES = descriptions()["xl_layer_specs"]["subcases"]
FIELDS = {
    "cutoffs": "out_cutoff",
    "sampling_rates": "out_sampling_rate",
    "half_widths": "out_half_width",
    "sizes": "out_size",
    "channels": "out_channels",
}


@pytest.mark.golden
@pytest.mark.parametrize("number", range(len(SUBCASES)))
def test_golden_xl_layer_specs(number):
    case, tolerance = SUBCASES[number], descriptions()["xl_layer_specs"]["tolerance"]["out"]
    args = case["args"]
    config = StyleGAN3Config(
        channel_base=args["channel_base"],
        channel_max=args["channel_max"],
        num_layers=args.get("num_layers", 10),
    )
    if case["kind"] == "stem":
        layers, count = stem_layers(config, args["img_resolution"]), config.num_layers
        start = (config.first_cutoff, config.first_stopband)
    else:
        last = replace(stem_layers(config, 16)[0], **args["stem_last"])
        count = args["head_layers"]
        _, layers = grow([last], SuperresStage(head_layers=count), config, args["img_resolution"])
        start = (last.out_cutoff, last.out_cutoff + last.out_half_width)
    bands = geometric_bands(count, args["img_resolution"], *start, config)
    ours = {name: [getattr(layer, field) for layer in layers] for name, field in FIELDS.items()}
    ours["stopbands"] = bands.stopbands
    for name, values in ours.items():
        stored = case[name]
        limit = {"rel": tolerance["rtol"], "abs": tolerance["atol_of_max"] * max(stored)}
        assert values == pytest.approx(stored, **limit), name


@pytest.mark.parametrize("name", ["xl_stem16", "xl_superres32", "xl_superres64", "xl_superres64_up4"])
def test_every_layer_has_the_stored_place_and_filters(name):
    kept, head = all_layers(config_of(name))
    stored = descriptions()[name]["layers"]
    assert [layer.name for layer in kept + head] == [entry["name"] for entry in stored]
    for layer, entry in zip(kept + head, stored, strict=True):
        assert (layer.padding * 2) == tuple(entry["padding"])
        assert layer.kernel == entry["conv_kernel"]
        for field in set(entry) & set(layer.__dataclass_fields__) - {"name"}:
            assert getattr(layer, field) == pytest.approx(entry[field], rel=1e-9), field
        for derived in ("up_factor", "down_factor", "up_taps", "down_taps"):
            assert getattr(layer, derived) == entry[derived]


def test_radial_layers_of_kernel_one_are_padded_wider():
    config = StyleGAN3Config(
        channel_base=512, channel_max=32, num_layers=7, conv_kernel=1, use_radial_filters=True
    )
    layers = stem_layers(config, 16)
    assert [layer.padding for layer in layers] == [(11, 10)] * 6 + [(-9, -10), (0, 0)]
    assert [layer.use_radial_filters for layer in layers] == [True] * 5 + [False] * 3


@pytest.mark.parametrize(
    ("resolution", "num_ws", "first_of_head"),
    [
        (16, 12, "L0_36_1024"),
        (32, 17, "L9_36_1024"),
        (64, 22, "L14_52_1024"),
        (128, 27, "L19_84_1024"),
        (256, 32, "L24_148_609"),
        (512, 37, "L29_276_304"),
        (1024, 40, "L34_532_152"),
    ],
)
def test_imagenet_chain_has_the_papers_depth(resolution, num_ws, first_of_head):
    kept, head = all_layers(model_config(f"sgxl-imagenet-{resolution}"))
    assert len(kept) + len(head) + 1 == num_ws
    assert head[0].name == first_of_head
    assert head[-1].name.endswith(f"_{resolution}_3")


def test_heads_may_have_their_own_kernels_and_clamp():
    """The published ImageNet weights have radial 1x1 stems under separable 3x3 heads."""
    head = SuperresStage(conv_kernel=3, use_radial_filters=False, conv_clamp=None)
    sizes = StyleGAN3Config(conv_kernel=1, use_radial_filters=True, superres=(head,))
    kept, new = all_layers(GeneratorConfig(img_resolution=32, stylegan3=sizes))
    assert {layer.kernel for layer in kept} == {1}
    assert {layer.kernel for layer in new[:-1]} == {3}
    assert all(layer.use_radial_filters for layer in kept)
    assert not any(layer.use_radial_filters for layer in new)
    assert {layer.conv_clamp for layer in new} == {None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"img_resolution": 48}, "power of two"),
        ({"img_resolution": 4}, "power of two"),
        ({"img_resolution": 0}, "power of two"),
        ({"z_dim": 0}, "positive"),
        ({"family": "stylegan9"}, "stylegan_t"),
        ({"stylegan3": StyleGAN3Config(superres=(SuperresStage(up_factor=3),))}, "2, 4, 8 or 16"),
        ({"stylegan3": StyleGAN3Config(superres=(SuperresStage(head_layers=2),))}, "3 or more"),
        ({"stylegan3": StyleGAN3Config(superres=(SuperresStage(up_factor=8),))}, "fewer heads"),
        ({"stylegan3": StyleGAN3Config(num_layers=2)}, "3 or more"),
        ({"stylegan3": StyleGAN3Config(conv_kernel=2)}, "3 \\(T\\) or 1 \\(R\\)"),
    ],
)
def test_contradicting_sizes_are_refused_in_one_sentence(change, words):
    with pytest.raises(ValueError, match=words) as caught:
        check_generator(replace(GeneratorConfig(img_resolution=32), **change))
    assert "\n" not in str(caught.value)
