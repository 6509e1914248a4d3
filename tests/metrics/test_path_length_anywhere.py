"""Path length through any feature network, and equivariance to rotation."""

import math
from dataclasses import replace

import pytest
import torch
from test_equivariance import SIDE, Waves
from tiny_models import tiny_model

from sgxl_t.conditioning import NoCondition
from sgxl_t.metrics.distances.map_distance import MapDistance
from sgxl_t.metrics.distances.ppl import ppl
from sgxl_t.metrics.distances.rotation import draw_angle, eqr, resampled, turning
from sgxl_t.metrics.features.extractor_cache import ExtractorCache
from sgxl_t.metrics.generated import GeneratorImages
from sgxl_t.metrics.protocol import parse_metric
from sgxl_t.metrics.runner import evaluate
from sgxl_t.networks.frozen import load_feature_network
from sgxl_t.networks.generators.registry import build_generator, model_config


def test_the_distance_of_maps_is_its_formula_and_zero_for_equal_images():
    network = load_feature_network("random:small_cnn")
    distance = MapDistance(network)
    x, y = (torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(n)) * 255 for n in (0, 1))
    assert distance(x, x).tolist() == [0, 0]
    expected = torch.zeros(2)
    for a, b in zip(network.maps(x / 255), network.maps(y / 255), strict=True):
        a, b = (torch.nn.functional.normalize(maps, dim=1) for maps in (a, b))
        expected += (a - b).square().sum(1).flatten(1).mean(1)
    torch.testing.assert_close(distance(x, y), expected)


def test_ppl_random_needs_no_weights_and_has_its_own_name():
    generator, condition = tiny_model("none", "sgxl-tiny-16")
    spec = parse_metric("ppl_random_6")
    assert (spec.name, spec.extractor, spec.lower_is_better) == ("ppl_random_6", "random:small_cnn", True)
    extractors = ExtractorCache()
    (result,) = evaluate(GeneratorImages(generator, condition), [spec], {}, extractors)
    assert result.info.extractor == "random:small_cnn"
    expected = ppl(generator, MapDistance(load_feature_network("random:small_cnn")), 6)
    assert result.value == pytest.approx(expected, rel=1e-6)
    assert result.value > 0


def test_names_of_path_lengths():
    assert parse_metric("ppl2k").name == "ppl2k_wend"
    assert parse_metric("ppl_random").name == "ppl_random_50k"
    assert parse_metric("ppl_local:runs/cnn").name == "ppl_local_50k"
    with pytest.raises(ValueError, match="needs maps of a network and dinov2 gives none"):
        parse_metric("ppl_dinov2")


def test_missing_weights_of_lpips_name_what_needs_none(tmp_path):
    generator, condition = tiny_model("none", "sgxl-tiny-16")
    with pytest.raises(ValueError, match="ppl_random or ppl_local:FOLDER, which need none"):
        evaluate(
            GeneratorImages(generator, condition),
            [parse_metric("ppl4")],
            {},
            ExtractorCache(weights={"lpips": str(tmp_path / "none")}),
        )


def test_quarter_turns_move_every_pixel_and_keep_all_that_has_taps():
    image = torch.randn(2, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    for quarter in range(4):
        turned, valid = resampled(image, turning(quarter * math.pi / 2))
        inner = slice(4, -4)
        assert valid[inner, inner].all()
        expected = torch.rot90(image, quarter, (1, 2)).double()
        torch.testing.assert_close(turned[:, inner, inner], expected[:, inner, inner])


def test_what_follows_every_turn_is_limited_by_the_kernel_alone_and_noise_is_not_followed():
    assert eqr(Waves(), 20) > 60
    value = eqr(Waves(noise=0.3), 40)
    assert 20 * math.log10(2) - 10 * math.log10(2 * 0.3**2) - 1 < value
    assert value < 20 * math.log10(2) - 10 * math.log10(0.3**2)


def test_angles_cover_the_whole_turn_and_belong_to_their_sample():
    angles = [draw_angle(0, index) for index in range(400)]
    assert angles[7] == draw_angle(3, 4)
    assert 0 <= min(angles) < 0.1
    assert 6.1 < max(angles) < 2 * math.pi


def test_the_rotation_variant_turns_better_than_the_other():
    config = model_config("sgxl-small-32")
    sizes = replace(config.stylegan3, conv_kernel=1, use_radial_filters=True)
    values = [
        eqr(build_generator(one, NoCondition().spec, seed=0).eval(), 4)
        for one in (config, replace(config, stylegan3=sizes))
    ]
    assert values[1] > values[0] + 3


def test_eqr_is_measured_by_name():
    generator, condition = tiny_model("none", "sgxl-tiny-16")
    (result,) = evaluate(GeneratorImages(generator, condition), [parse_metric("eqr4")], {}, ExtractorCache())
    assert result.metric == "eqr4_lanczos"
    assert math.isfinite(result.value)
    assert torch.equal(generator.synthesis.input.transform, torch.eye(3))
    text, condition = tiny_model("none", "sgt-tiny-16")
    with pytest.raises(ValueError, match="leave eqt and eqr out"):
        evaluate(GeneratorImages(text, condition), [parse_metric("eqr4")], {}, ExtractorCache())
