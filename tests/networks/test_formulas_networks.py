"""Styles, averages and the layer schedule have the values that their formulas give."""

from dataclasses import replace

import pytest
import torch

from sgxl_t.networks.configs import (
    ConditionSpec,
    GeneratorConfig,
    StyleGAN3Config,
    StyleGANTConfig,
    SuperresStage,
)
from sgxl_t.networks.generators.mapping_t import MappingT
from sgxl_t.networks.generators.mapping_xl import MappingXL
from sgxl_t.networks.generators.schedule_xl import (
    LayerSpec,
    all_layers,
    check_schedule,
    geometric_bands,
    stem_resolution,
)

CONFIG = GeneratorConfig(
    z_dim=6,
    stylegan3=StyleGAN3Config(w_dim=5, embed_proj_dim=4, mapping_layers=2),
    stylegan_t=StyleGANTConfig(mapping_layers=3, text_scale=2.0),
)
CLASSES = ConditionSpec(kind="class", dim=3, num_classes=4)
TEXT = ConditionSpec(kind="text", dim=3)
KINDS = pytest.mark.parametrize("spec", [CLASSES, TEXT, ConditionSpec()], ids=lambda spec: spec.kind)


def condition(spec, count=2):
    rng = torch.Generator().manual_seed(3)
    if spec.kind == "class":
        return torch.arange(count) % 4
    return torch.randn(count, spec.dim, generator=rng) if spec.kind == "text" else None


def made(kind, spec, num_ws=4):
    torch.manual_seed(1)
    mapping = kind(CONFIG, spec, num_ws)
    for buffer in mapping.buffers():
        buffer.normal_()
    for name, parameter in mapping.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return mapping


def unit(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def dense(layer, x, rate, active=True):
    """A fully connected layer with equalised learning rate, leaky ReLU of slope 0.2 and gain sqrt(2)."""
    y = x @ layer.weight.T * (rate / x.shape[1] ** 0.5) + layer.bias * rate
    return torch.where(y > 0, y, 0.2 * y) * 2**0.5 if active else y


def z_of(count=2):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(2))


def w_xl(mapping, z, vectors):
    x = unit(z)
    if vectors is not None:
        x = torch.cat([x, unit(dense(mapping.embed_proj, vectors, 1.0))], dim=1)
    return dense(mapping.fc1, dense(mapping.fc0, x, 0.01), 0.01)


def vectors_of(mapping, spec, c):
    return mapping.embed.weight[c] if spec.kind == "class" else c


@KINDS
def test_styles_of_stylegan_xl(spec):
    mapping, z, c = made(MappingXL, spec), z_of(), condition(spec)
    w = w_xl(mapping, z, vectors_of(mapping, spec, c))
    torch.testing.assert_close(mapping(z, c), w[:, None].expand(-1, 4, -1))
    if spec.kind != "text":
        center = mapping.w_avg if c is None else mapping.w_avg[c]
        torch.testing.assert_close(mapping.center(c), center)
    center = mapping.center(c)
    for cutoff, count in ((None, 4), (0, 0), (1, 1), (9, 4), (-2, 0)):
        ws = mapping(z, c, truncation_psi=0.25, truncation_cutoff=cutoff)
        torch.testing.assert_close(
            ws[:, :count], (center + 0.25 * (w - center))[:, None].expand(-1, count, -1)
        )
        torch.testing.assert_close(ws[:, count:], w[:, None].expand(-1, 4 - count, -1))


def test_the_centre_of_a_prompt_is_the_mean_of_256_latents_of_seed_0():
    mapping, c = made(MappingXL, TEXT), condition(TEXT)
    z = torch.randn(256, 6, generator=torch.Generator().manual_seed(0))
    for row, center in zip(c, mapping.center(c), strict=True):
        torch.testing.assert_close(center, w_xl(mapping, z, row.expand(256, -1)).mean(0))
    assert not mapping.center(c).requires_grad
    assert mapping.w_avg is None


def test_averages_of_stylegan_xl_move_by_two_thousandths_in_order():
    mapping, z = made(MappingXL, ConditionSpec()), z_of(3)
    before = mapping.w_avg.clone()
    w = mapping(z, update_averages=True)[:, 0].detach()
    torch.testing.assert_close(mapping.w_avg, 0.998 * before + 0.002 * w.mean(0))
    mapping = made(MappingXL, CLASSES)
    labels, expected = torch.tensor([2, 0, 2, 2]), mapping.w_avg.clone()
    w = mapping(z_of(4), labels, update_averages=True)[:, 0].detach()
    for label, row in zip(labels, w, strict=True):
        expected[label] = 0.998 * expected[label] + 0.002 * row
    torch.testing.assert_close(mapping.w_avg, expected, rtol=1e-6, atol=1e-7)
    assert not mapping.w_avg.requires_grad
    before = mapping.w_avg.clone()
    mapping(z_of(4), labels)
    assert torch.equal(mapping.w_avg, before)
    fresh = MappingXL(CONFIG, CLASSES, 1)
    assert fresh.w_avg.eq(0).all()
    assert fresh.w_avg.shape == (4, 5)
    assert (fresh.z_dim, fresh.w_dim, fresh.num_ws) == (6, 5, 1)
    assert MappingXL(CONFIG, ConditionSpec(), 1).w_avg.shape == (5,)
    text = made(MappingXL, TEXT)
    text(z_of(), condition(TEXT), update_averages=True)  # has no average to move


@pytest.mark.parametrize("shape", [(2, 5), (2, 6, 1), (6,)])
def test_latents_of_another_width_are_refused(shape):
    with pytest.raises(ValueError, match=r"pass z \[N, 6\]"):
        made(MappingXL, ConditionSpec())(torch.zeros(shape))
    with pytest.raises(ValueError, match="3 latents came with 2 conditions"):
        made(MappingXL, TEXT)(z_of(3), condition(TEXT))


def test_double_latents_keep_their_precision():
    mapping = made(MappingXL, ConditionSpec())
    assert mapping(z_of().double()).dtype == torch.float64
    half = z_of().half()
    assert torch.equal(mapping(half), mapping(half.float())), "half latents are normalised in float32"


@pytest.mark.parametrize("kind", [MappingXL, MappingT])
@KINDS
def test_styles_beyond_one_exaggerate_and_double_latents_are_truncated_too(kind, spec):
    mapping, z, c = made(kind, spec), z_of(), condition(spec)
    w, center = mapping(z, c)[:, 0], mapping.center(c)
    torch.testing.assert_close(mapping(z, c, truncation_psi=2.0)[:, 0], center + 2 * (w - center))
    assert torch.equal(mapping(z, c, truncation_psi=1.0)[:, 0], w)
    double = mapping(z.double(), c, truncation_psi=0.5, update_averages=True)[:, 0]
    assert double.dtype == torch.float64
    if kind is MappingT or spec.kind == "text":  # else centred on the average that has just moved
        center = mapping.center(c)
        torch.testing.assert_close(double, (center + 0.5 * (w - center)).double(), rtol=1e-4, atol=1e-4)


def x_t(mapping, z):
    x = dense(mapping.mlp.fc1, dense(mapping.mlp.fc0, unit(z), 0.01), 0.01)
    return dense(mapping.mlp.fc2, x, 0.01, active=False)


@KINDS
def test_styles_of_stylegan_t(spec):
    mapping, z, c = made(MappingT, spec), z_of(), condition(spec)
    vectors = vectors_of(mapping, spec, c)

    def joined(x):
        return x if vectors is None else torch.cat([x, 2.0 * vectors], dim=1)

    x, average = x_t(mapping, z), mapping.x_avg
    assert mapping.w_dim == (6 if vectors is None else 9)
    torch.testing.assert_close(mapping(z, c), joined(x)[:, None].expand(-1, 4, -1))
    center = mapping.center(c)
    torch.testing.assert_close(center, average if vectors is None else joined(average.expand(2, -1)))
    truncated = joined(average + 0.25 * (x - average))
    for cutoff, count in ((None, 4), (0, 0), (1, 1), (9, 4), (-2, 0)):
        ws = mapping(z, c, truncation_psi=0.25, truncation_cutoff=cutoff)
        torch.testing.assert_close(ws[:, :count], truncated[:, None].expand(-1, count, -1))
        torch.testing.assert_close(ws[:, count:], joined(x)[:, None].expand(-1, 4 - count, -1))


def test_the_average_of_stylegan_t_moves_by_five_thousandths():
    mapping, z = made(MappingT, TEXT), z_of(3)
    before = mapping.x_avg.clone()
    mapping(z, condition(TEXT, 3))
    assert torch.equal(mapping.x_avg, before)
    mapping(z, condition(TEXT, 3), update_averages=True)
    torch.testing.assert_close(mapping.x_avg, 0.995 * before + 0.005 * x_t(mapping, z).mean(0).detach())
    assert not mapping.x_avg.requires_grad
    assert MappingT(CONFIG, TEXT, 1).x_avg.eq(0).all()
    one = MappingT(replace(CONFIG, stylegan_t=StyleGANTConfig(mapping_layers=1)), TEXT, 1)
    torch.testing.assert_close(
        one(z_of(), condition(TEXT))[:, 0, :6], dense(one.mlp.fc0, unit(z_of()), 0.01, False)
    )
    with pytest.raises(ValueError, match="mapping_layers=0 leaves z unmapped"):
        MappingT(replace(CONFIG, stylegan_t=StyleGANTConfig(mapping_layers=0)), TEXT, 1)


def test_a_stem_of_256_pixels_by_the_formulas_of_the_paper():
    """Cutoffs and stopbands grow geometrically over the first eight of ten layers (StyleGAN3, app. G.1)."""
    layers = all_layers(GeneratorConfig(img_resolution=256))[1]
    shares = [min(i / 8, 1) for i in range(11)]
    cutoffs = [2 * (128 / 2) ** share for share in shares]
    stopbands = [2**2.1 * (128 * 2**0.3 / 2**2.1) ** share for share in shares]
    rates = [16, 16, 32, 64, 64, 128, 128, 256, 256, 256, 256]
    sizes = [36, 36, 52, 84, 84, 148, 148, 276, 276, 256, 256]
    assert [layer.out_cutoff for layer in layers] == pytest.approx(cutoffs)
    assert [layer.out_sampling_rate for layer in layers] == rates
    assert [layer.out_size for layer in layers] == sizes
    halves = [max(stop, rate / 2) - cut for stop, rate, cut in zip(stopbands, rates, cutoffs, strict=True)]
    assert [layer.out_half_width for layer in layers] == pytest.approx(halves)
    channels = [min(round(32768 / cutoff), 1024) for cutoff in cutoffs[:-1]] + [3]
    assert [layer.out_channels for layer in layers] == channels
    assert [layer.index for layer in layers] == list(range(11))
    assert [layer.is_torgb for layer in layers] == [False] * 10 + [True]
    assert [layer.is_critically_sampled for layer in layers] == [False] * 8 + [True] * 3
    assert [layer.kernel for layer in layers] == [3] * 10 + [1]
    assert {layer.conv_clamp for layer in layers} == {256.0}
    assert all_layers(GeneratorConfig(img_resolution=256, img_channels=1))[1][-1].out_channels == 1
    for before, layer in zip([layers[0], *layers], layers, strict=False):
        assert layer.in_size == before.out_size
        assert layer.in_channels == before.out_channels
        assert layer.in_sampling_rate == before.out_sampling_rate
        assert (layer.in_cutoff, layer.in_half_width) == (before.out_cutoff, before.out_half_width)


LAYER = LayerSpec(
    index=3, in_channels=8, out_channels=7, in_size=36, out_size=52, in_sampling_rate=16,
    out_sampling_rate=32, in_cutoff=2.0, out_cutoff=4.0, in_half_width=1.0, out_half_width=2.0,
    is_torgb=False, is_critically_sampled=False, kernel=3, use_radial_filters=False, filter_size=6,
    lrelu_upsampling=2, conv_clamp=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "rate", "up", "down", "taps", "padding"),
    [
        ({}, 64, 4, 2, (24, 12), (-6, -9)),
        ({"out_sampling_rate": 16, "out_size": 36}, 32, 2, 2, (12, 12), (9, 8)),
        ({"in_sampling_rate": 32, "out_sampling_rate": 16}, 64, 2, 4, (12, 24), (82, 81)),
        ({"lrelu_upsampling": 1}, 32, 2, 1, (12, 1), (-6, -7)),
        (
            {"lrelu_upsampling": 1, "in_sampling_rate": 32, "out_sampling_rate": 16, "out_size": 20},
            32, 1, 2, (1, 12), (6, 6),
        ),
        ({"filter_size": 4}, 64, 4, 2, (16, 8), (-12, -15)),
        (
            {"is_torgb": True, "kernel": 1, "out_sampling_rate": 16, "out_size": 32},
            16, 1, 1, (1, 1), (-2, -2),
        ),
        ({"is_torgb": True, "kernel": 1, "out_size": 64}, 32, 2, 1, (1, 1), (-3, -5)),
    ],
)  # fmt: skip
def test_rates_taps_and_padding_of_one_layer(change, rate, up, down, taps, padding):
    layer = replace(LAYER, **change)
    assert (layer.tmp_sampling_rate, layer.up_factor, layer.down_factor) == (rate, up, down)
    assert (layer.up_taps, layer.down_taps) == taps
    assert layer.padding == padding
    low, high = padding
    # Zero insertion, padding, both filters and decimation leave out_size samples.
    fine = (layer.in_size + layer.kernel - 1) * up + low + high - sum(taps) + 2
    assert (fine - 1) // down + 1 == layer.out_size
    assert layer.name == f"L3_{layer.out_size}_7"


def test_rates_keep_a_stopband_that_is_a_power_of_two_up_to_rounding():
    for stopband, rates in ((8.0 * (1 + 1e-12), [16, 16]), (8.001, [32, 16])):
        config = StyleGAN3Config(num_critical=0, last_stopband_rel=1.0)
        assert geometric_bands(1, 16, 4.0, 4.0, config).rates == [8, 16]
        assert geometric_bands(1, 32, 4.0, stopband, replace(config, last_stopband_rel=0.5)).rates == rates


def test_heads_go_on_from_the_layers_that_stay():
    heads = (SuperresStage(head_layers=5, up_factor=4), SuperresStage(head_layers=3, conv_clamp=None))
    config = GeneratorConfig(img_resolution=128, img_channels=1, stylegan3=StyleGAN3Config(superres=heads))
    assert stem_resolution(config) == 16
    kept, head = all_layers(config)
    assert len(kept) == 8 + 3
    assert len(head) == 4
    last, first = kept[-1], head[0]
    assert [layer.index for layer in kept + head] == [*range(8), *range(9, 12), *range(12, 16)]
    assert first.in_sampling_rate == first.out_sampling_rate == last.out_sampling_rate
    assert first.in_channels == first.out_channels == last.out_channels
    assert first.out_cutoff == last.out_cutoff
    assert first.out_size == last.out_sampling_rate + 20
    shares = [min(i / 1, 1) for i in range(4)]
    assert [layer.out_cutoff for layer in head] == pytest.approx(
        [last.out_cutoff * (64 / last.out_cutoff) ** share for share in shares]
    )
    assert head[-1].out_channels == 1
    assert {layer.conv_clamp for layer in head} == {None}


@pytest.mark.parametrize(
    ("resolution", "sizes", "words"),
    [
        (32, {"superres": (SuperresStage(up_factor=8),)}, "stem of 4 pixels"),
        (32, {"superres": (SuperresStage(up_factor=5),)}, "up_factor=5"),
        (32, {"superres": (SuperresStage(head_layers=2),)}, "use 3 or more"),
        (32, {"num_layers": 3, "num_critical": 3}, "use 4 or more"),
        (32, {"superres": (SuperresStage(conv_kernel=5),)}, "conv_kernel=5"),
    ],
)
def test_schedules_that_cannot_be_are_refused(resolution, sizes, words):
    with pytest.raises(ValueError, match=words):
        check_schedule(GeneratorConfig(img_resolution=resolution, stylegan3=StyleGAN3Config(**sizes)))


@pytest.mark.parametrize(
    ("resolution", "sizes"),
    [
        (8, {}),
        (128, {"superres": (SuperresStage(up_factor=16),)}),
        (32, {"superres": (SuperresStage(head_layers=3), SuperresStage(conv_kernel=1))}),
        (32, {"num_layers": 3, "conv_kernel": 1}),
    ],
)
def test_the_smallest_schedules_are_allowed(resolution, sizes):
    check_schedule(GeneratorConfig(img_resolution=resolution, stylegan3=StyleGAN3Config(**sizes)))
