"""Precision of frozen networks: what each setting computes in, what it costs in accuracy."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from sgxl_t.networks.backbones import precision as backbone_precision
from sgxl_t.networks.backbones.precision import SlowInHalfOnCpu, float32_backbones
from sgxl_t.networks.configs import ConditionSpec, DiscriminatorConfig, ProjectedConfig
from sgxl_t.networks.discriminators.discriminator import build_discriminator
from sgxl_t.networks.discriminators.projector import ProjectedFeatures
from sgxl_t.networks.frozen import load_feature_network

HALF = torch.bfloat16
BOUNDS = {
    "test_vit": (0.01, 0.02),
    "small_vit": (0.01, 0.05),
    "resnet10t": (0.01, 0.1),
    "small_cnn": (0.01, 0.15),
    "tf_efficientnet_lite0": (0.03, 0.3),
}
"""Largest relative error, in the Euclidean norm, of a map and of the images' gradient, by network. Rounding
tips rectifiers that sit at their kink, which moves the gradient of a CNN with random weights most."""


@pytest.fixture(autouse=True)
def able_processor(monkeypatch):
    """Tests decide alike on every machine."""
    monkeypatch.setattr(backbone_precision, "cpu_multiplies_bf16", lambda: True)


def launch(precision):
    """Autocast as a launch has it."""
    return torch.autocast("cpu", dtype=HALF, enabled=precision == "bf16")


class Products(TorchFunctionMode):
    """Notes the types that convolutions, products and attention give."""

    def __init__(self):
        super().__init__()
        self.types = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in (F.conv2d, F.linear, F.scaled_dot_product_attention):
            self.types.setdefault(func.__name__, set()).add(result.dtype)
        return result


def images_for(network, seed=0):
    side = network.input_size if network.kind == "vit" else 48
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def read(network, images, launched="no"):
    """Maps and the gradient of a smooth loss of them at the images."""
    images = images.clone().requires_grad_()
    with launch(launched):
        maps = network.maps(images)
    torch.stack([x.double().square().mean().sqrt() for x in maps]).sum().backward()
    return maps, images.grad


def off(x, reference):
    """Distance over the reference's length, both Euclidean."""
    return ((x.double() - reference.double()).norm() / reference.double().norm()).item()


LOWERED = [("bf16", "no"), ("auto", "bf16"), ("bf16", "bf16")]


@pytest.mark.parametrize(
    ("name", "precision", "launched"),
    [(name, *how) for name in BOUNDS for how in LOWERED if "efficientnet" not in name or how[0] != "auto"],
)
def test_half_precision_keeps_features_and_slopes_within_bounds(name, precision, launched):
    network = load_feature_network(f"random:{name}")
    images = images_for(network)
    maps, slopes = read(network, images)
    network.precision = precision
    low_maps, low_slopes = read(network, images, launched)
    errors = [off(x, y) for x, y in zip(low_maps, maps, strict=True)]
    assert 1e-4 < max(errors) < BOUNDS[name][0]
    assert low_slopes.dtype == torch.float32
    assert off(low_slopes, slopes) < BOUNDS[name][1]
    assert F.cosine_similarity(low_slopes.flatten(), slopes.flatten(), dim=0) > 0.95
    outside = HALF if launched == "bf16" else torch.float32
    assert {x.dtype for x in low_maps} <= {outside, torch.float32}


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize(("precision", "launched"), [("auto", "no"), ("fp32", "no"), ("fp32", "bf16")])
def test_where_nothing_is_lowered_results_are_those_of_float32(name, precision, launched):
    network = load_feature_network(f"random:{name}")
    images = images_for(network)
    maps, slopes = read(network, images)
    network.precision = precision
    same_maps, same_slopes = read(network, images, launched)
    assert all(torch.equal(x, y) for x, y in zip(same_maps, maps, strict=True))
    assert torch.equal(same_slopes, slopes)


def test_depthwise_networks_are_lowered_on_a_cpu_only_when_told():
    network = load_feature_network("random:tf_efficientnet_lite0")
    images = images_for(network)
    maps, slopes = read(network, images)
    same_maps, same_slopes = read(network, images, "bf16")
    assert all(torch.equal(x, y) for x, y in zip(same_maps, maps, strict=True))
    assert torch.equal(same_slopes, slopes)


def test_products_run_in_half_precision_where_asked():
    network = load_feature_network("random:small_vit")
    images = images_for(network)
    network.precision = "bf16"
    with Products() as products:
        network.maps(images)
    assert products.types["conv2d"] == products.types["linear"] == {HALF}
    assert products.types["scaled_dot_product_attention"] == {torch.float32}  # rounded after it
    network.precision = "fp32"
    with launch("bf16"), Products() as products:
        network.maps(images)
    assert set.union(*products.types.values()) == {torch.float32}


def test_a_processor_without_the_instructions_follows_only_what_is_asked_for(monkeypatch):
    monkeypatch.setattr(backbone_precision, "cpu_multiplies_bf16", lambda: False)
    network = load_feature_network("random:small_cnn")
    images = images_for(network)
    with launch("bf16"):
        assert {x.dtype for x in network.maps(images)} == {torch.float32}
        network.precision = "bf16"
        assert {x.dtype for x in network.maps(images)} == {HALF}


def test_attention_and_depthwise_convolutions_stay_in_float32_on_a_cpu():
    """Exactly what float32 gives for the same inputs, rounded once."""
    torch.manual_seed(0)
    conv, q = nn.Conv2d(8, 8, 3, groups=8), torch.randn(1, 2, 9, 16)
    x = torch.randn(1, 8, 6, 6)
    with launch("bf16"), SlowInHalfOnCpu():
        convolved = conv(x)
        attended = F.scaled_dot_product_attention(q, q, q)
        dense = F.conv2d(x, torch.ones(1, 8, 1, 1))
        exact = F.scaled_dot_product_attention(*[q.double()] * 3)
    assert exact.dtype == torch.float64
    assert torch.equal(convolved, conv(x).to(HALF))
    assert torch.equal(attended, F.scaled_dot_product_attention(q, q, q).to(HALF))
    assert torch.equal(dense, F.conv2d(x.to(HALF), torch.ones(1, 8, 1, 1, dtype=HALF)))


def test_second_derivatives_are_taken_in_float32():
    network = load_feature_network("random:small_vit")
    images = images_for(network)
    expected = network.maps(images)
    network.precision = "bf16"
    with float32_backbones():
        assert all(torch.equal(x, y) for x, y in zip(network.maps(images), expected, strict=True))
    assert not torch.equal(network.maps(images)[-1], expected[-1])


def built(precision, **changes):
    options = {"cout": 8, "head_width": 8, "final_upsample": False, "input_size": None} | changes
    config = DiscriminatorConfig(
        features=("random:small_cnn", "random:small_vit"),
        diff_augment="",
        precision=precision,
        projected=ProjectedConfig(**options),
    )
    return build_discriminator(config, ConditionSpec(), 32)


@pytest.mark.parametrize("launched", ["no", "bf16"])
def test_both_phases_see_real_and_generated_images_alike(launched):
    """With and without gradients, together and apart."""
    discriminator = built("bf16")
    real, fake = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    with launch(launched):
        with torch.no_grad():
            together = discriminator.features(torch.cat([fake, real]))
        alone = discriminator.features(fake.clone().requires_grad_())
    for both, one in zip(together, alone, strict=True):
        for x, y in zip(both, one, strict=True):
            assert x.dtype == y.dtype
            torch.testing.assert_close(x[:2], y.detach(), rtol=0.02, atol=0.02)


def test_mixing_layers_and_heads_follow_the_launch():
    discriminator = built("bf16")
    network, projection = discriminator.features.pairs()[0]
    maps = network.maps(torch.rand(1, 3, 32, 32))
    assert {x.dtype for x in maps} == {torch.float32}  # lowered inside alone
    with Products() as products:
        projection(maps)
    assert products.types["conv2d"] == {torch.float32}
    with launch("bf16"), Products() as products:
        projection(maps)
    assert products.types["conv2d"] == {HALF}
    logits = discriminator(torch.rand(2, 3, 32, 32))
    torch.stack([entry.mean() for entry in logits]).sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in discriminator.heads.parameters())


def test_feature_scales_are_the_same_to_one_percent():
    scales = []
    for precision in ("fp32", "bf16"):
        features = built(precision, normalize_features=True).features
        assert isinstance(features, ProjectedFeatures)
        features.calibrate(torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1)
        scales.append(torch.cat([projection.scale for _, projection in features.pairs()]))
    assert not torch.equal(*scales)
    torch.testing.assert_close(*scales, rtol=0.01, atol=0)
