"""Relativistic pairing and the gradient penalty: the formulas, the sign, rounds, wrappers, real networks."""

import math
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.conditioning import as_conditioning
from sgxl_t.networks.configs import ConditionSpec, DinoConfig, DiscriminatorConfig, ProjectedConfig
from sgxl_t.networks.discriminators.discriminator import build_discriminator
from sgxl_t.networks.discriminators.slopes import logits_and_slopes
from sgxl_t.networks.frozen import load_feature_network
from sgxl_t.objectives import (
    MicroBatch,
    Networks,
    Objective,
    ObjectiveConfig,
    hinge_d_loss,
    relativistic_loss,
)

R3GAN = ObjectiveConfig(loss="relativistic", gradient_penalty=0.7, blur_init_sigma=0.0)


class SmoothFeatures(nn.Module):
    """Two frozen networks with curvature, so that slopes differ from image to image."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 2, 4, stride=2)
        self.requires_grad_(False)

    def forward(self, images, rng=None):
        return [[self.first(images).tanh(), images.sin()], [self.second(images).tanh()]]


class SmoothHeads(nn.Module):
    """Projected on a label; nothing ties the images of a call together."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4 * 16 + 108, 5), nn.Linear(2 * 4, 2)
        self.table = nn.Embedding(3, 5)

    def forward(self, features, cond, *, slopes=False):
        if slopes:
            return logits_and_slopes(self, features, cond)
        c = as_conditioning(cond).target
        maps = [torch.cat([x.flatten(1) for x in network], dim=1) for network in features]
        maps = [x.repeat(len(c) // len(x), 1) for x in maps]
        return [self.first(maps[0]).tanh() * self.table(c), self.second(maps[1]).square()]


@pytest.fixture
def nets():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 108), nn.Tanh(), nn.Unflatten(1, (3, 6, 6)))
    called = nn.Module()
    called.net = generator
    called.forward = lambda z, cond, update_averages, rng: generator(z)
    return Networks(called.double(), SmoothHeads().double(), SmoothFeatures().double())


def batch():
    draw = torch.Generator().manual_seed(1)
    real = torch.rand(4, 3, 6, 6, generator=draw, dtype=torch.float64) * 2 - 1
    return real, torch.tensor([0, 2, 1, 2]), torch.randn(4, 4, generator=draw, dtype=torch.float64)


def d_loss(config, nets, part=slice(None), heads=None):
    real, c, z = (value[part] for value in batch())
    networks = nets._replace(heads=heads or nets.heads)
    return Objective(config).d_loss(networks, MicroBatch(real, as_conditioning(c)), z, 0)


def gradients(loss, module):
    return torch.autograd.grad(loss, list(module.parameters()))


def test_the_better_side_rises():
    high, low = [torch.tensor([[3.0]])], [torch.tensor([[1.0]])]
    assert relativistic_loss(high, low).item() == pytest.approx(math.log1p(math.exp(-2)))
    assert relativistic_loss(low, high).item() == pytest.approx(math.log1p(math.exp(2)))


def test_mean_over_pairs_and_logits_and_sum_over_networks():
    better = [torch.zeros(4, 3), torch.zeros(4, 7)]
    worse = [torch.full((4, 3), 0.5), torch.full((4, 7), -2.0)]
    expected = math.log1p(math.exp(0.5)) + math.log1p(math.exp(-2))
    assert relativistic_loss(better, worse).item() == pytest.approx(expected)


def test_what_makes_no_pairs_is_refused():
    for better, worse in (([], []), ([torch.zeros(2, 3)], [torch.zeros(3, 3)])):
        with pytest.raises(ValueError, match="make no pairs: pass equally many"):
            relativistic_loss(better, worse)


@pytest.mark.parametrize("loss", ["hinge", "relativistic"])
def test_d_loss_equals_the_formula_image_by_image(nets, loss):
    generator, heads, features = nets
    real, c, z = batch()
    fake = generator(z, c, True, None).detach()

    def squared_slope(image, label):
        image = image[None].clone().requires_grad_()
        score = sum(logits.mean() for logits in heads(features(image), label[None]))
        return torch.autograd.grad(score, image, create_graph=True)[0].square().sum()

    r1 = sum(squared_slope(*pair) for pair in zip(real, c, strict=True)) / 4
    r2 = sum(squared_slope(*pair) for pair in zip(fake, c, strict=True)) / 4
    sides = heads(features(real), c), heads(features(fake), c)
    if loss == "hinge":
        adversarial = hinge_d_loss(*sides)
    else:
        adversarial = sum(F.softplus(-(a - b)).mean() for a, b in zip(*sides, strict=True))
    expected = adversarial + 0.7 / 2 * (r1 + r2)
    ours, stats = d_loss(replace(R3GAN, loss=loss), nets)
    torch.testing.assert_close(ours, expected, rtol=1e-6 if loss == "hinge" else 1e-12, atol=0)
    torch.testing.assert_close(stats["loss/r1"], r1.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(stats["loss/r2"], r2.detach(), rtol=1e-12, atol=0)
    tolerance = {"rtol": 1e-6, "atol": 1e-7} if loss == "hinge" else {"rtol": 1e-9, "atol": 1e-13}
    for found, wanted in zip(gradients(ours, heads), gradients(expected, heads), strict=True):
        torch.testing.assert_close(found, wanted, **tolerance)


def test_gradient_of_the_heads_agrees_with_finite_differences(nets):
    _, heads, _ = nets
    slopes = gradients(d_loss(R3GAN, nets)[0], heads)
    directions = [torch.randn(p.shape, generator=torch.Generator().manual_seed(9)).double() for p in slopes]

    def moved(step):
        with torch.no_grad():
            for parameter, direction in zip(heads.parameters(), directions, strict=True):
                parameter += step * direction
        return d_loss(R3GAN, nets)[0].item()

    step = 1e-5
    up, down = moved(step), moved(-2 * step)
    expected = sum((slope * direction).sum() for slope, direction in zip(slopes, directions, strict=True))
    assert (up - down) / (2 * step) == pytest.approx(expected.item(), rel=1e-6)


def test_penalty_moves_no_pixel_and_no_other_network(nets):
    generator, heads, features = nets
    real, c, z = batch()
    objective = Objective(R3GAN)
    loss, stats = objective.d_loss(nets, MicroBatch(real, as_conditioning(c)), z, 0)
    loss.backward()
    assert real.grad is None
    assert not real.requires_grad
    assert all(p.grad is None for p in (*generator.net.parameters(), *features.parameters()))
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in heads.parameters())
    assert not any(value.requires_grad for value in stats.values())


def test_g_loss_pairs_with_the_real_image_of_its_condition(nets):
    generator, heads, features = nets
    real, c, z = batch()
    heads.requires_grad_(False)
    loss, _ = Objective(R3GAN).g_loss(nets, MicroBatch(real, as_conditioning(c)), z, 0)
    sides = heads(features(generator(z, c, True, None)), c), heads(features(real), c)
    expected = sum(F.softplus(-(a - b)).mean() for a, b in zip(*sides, strict=True))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for found, wanted in zip(gradients(loss, generator), gradients(expected, generator), strict=True):
        torch.testing.assert_close(found, wanted)


def test_rounds_average_to_the_whole_batch(nets):
    whole = d_loss(R3GAN, nets)[0]
    parts = sum(d_loss(R3GAN, nets, slice(start, start + 2))[0] for start in (0, 2)) / 2
    torch.testing.assert_close(whole, parts, rtol=1e-12, atol=0)
    for found, wanted in zip(gradients(whole, nets[1]), gradients(parts, nets[1]), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-13)


def test_gradients_pass_through_distributed_data_parallel(nets, tmp_path):
    _, heads, _ = nets
    expected = gradients(d_loss(R3GAN, nets)[0], heads)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'x'}", rank=0, world_size=1)
    try:
        engine = nn.parallel.DistributedDataParallel(heads)
        for _ in range(2):  # a reducer that missed a gradient refuses the second round
            heads.zero_grad()
            d_loss(R3GAN, nets, heads=engine)[0].backward()
    finally:
        torch.distributed.destroy_process_group()
    for parameter, wanted in zip(heads.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, wanted)


def test_mismatched_conditions_are_paired_with_their_own(nets):
    _, heads, features = nets
    real, c, _ = batch()
    _, stats = d_loss(replace(R3GAN, mismatch_weight=0.5), nets)
    other = c.roll(1)
    assert bool((other != c).all())
    sides = heads(features(real), c), heads(features(real), other)
    expected = sum(F.softplus(b - a).mean() for a, b in zip(*sides, strict=True))
    torch.testing.assert_close(stats["loss/mismatch"], expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(stats["loss/r1"], d_loss(R3GAN, nets)[1]["loss/r1"], rtol=1e-12, atol=0)


def discriminator(family):
    """Frozen features of random weights, heads in eval mode so that calls repeat."""
    if family == "dino":
        torch.manual_seed(3)
        model = timm.models.VisionTransformer(
            img_size=16, patch_size=4, embed_dim=8, depth=2, num_heads=2, num_classes=0
        )
        network = FeatureNetwork("random:tiny", model, input_size=16)
    else:
        network = load_feature_network("random:small_cnn")
    config = DiscriminatorConfig(
        family=family,
        features=("x",),
        diff_augment="",
        dino=DinoConfig(taps=(0, 1), cmap_dim=4),
        projected=ProjectedConfig(cout=4, head_width=4, end_size=4, input_size=None),
    )
    condition = ConditionSpec(kind="class", dim=6, num_classes=3)
    built = build_discriminator(config, condition, 16, networks=[network])
    built.heads.eval()
    return built


@pytest.mark.parametrize("family", ["dino", "projected"])
def test_penalty_reaches_through_frozen_networks_in_float32(family):
    built = discriminator(family)
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1
    c = torch.tensor([0, 1, 2])
    objective = Objective(replace(R3GAN, gradient_penalty=1.0))
    networks = Networks(lambda *_, **__: images.flip(0), built.heads, built.features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, stats = objective.d_loss(networks, MicroBatch(images, as_conditioning(c)), images, 100)
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in built.heads.parameters())
    assert all(p.grad is None for p in built.features.parameters())
    expected = []
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for shown in (images, images.flip(0)):
            leaf = shown.clone().requires_grad_()
            score = sum(logits.mean(1).sum() for logits in built(leaf, c))
            expected.append(torch.autograd.grad(score, leaf)[0].square().sum((1, 2, 3)).mean())
    torch.testing.assert_close(stats["loss/r1"], expected[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(stats["loss/r2"], expected[1], rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gradient_penalty": -1.0}, "gradient_penalty=-1.0 must not be negative"),
        ({"gradient_penalty": 1.0, "share_fakes": True}, "set objective.share_fakes to false"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        ObjectiveConfig(**settings)
