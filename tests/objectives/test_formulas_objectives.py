"""Settings, presets, guidance and path length have the values that their formulas give."""

import math

import pytest
import torch
from torch.nn import functional as F

from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.objectives import (
    Objective,
    ObjectiveConfig,
    PathLength,
    clip_guidance,
    hinge_d_loss,
    hinge_g_loss,
    objective_preset,
    relativistic_loss,
    spherical_distance,
)
from sgxl_t.objectives.adversarial import mean_logit, mean_sign, wide
from sgxl_t.objectives.guidance import random_crop
from sgxl_t.objectives.path_length import path_noise
from sgxl_t.objectives.penalty import read_with_slopes
from sgxl_t.objectives.weights import (
    clip_weight_from_release,
    cls_weight_from_release,
    pl_weight_from_release,
)

DEFAULTS = {
    "loss": "hinge",
    "gradient_penalty": 0.0,
    "order": "g_first",
    "share_fakes": False,
    "average_w": "d_phase",
    "blur_init_sigma": 2.0,
    "blur_fade_kimg": 300.0,
    "cls_weight": 0.0,
    "mismatch_weight": 0.0,
    "clip_weight": 0.0,
    "clip_crop": 64,
    "stem_weight": 0.0,
    "d_alone_kimg": 0.0,
    "diversity_weight": 0.0,
    "diversity_of": "pixels",
    "diversity_share": 0.25,
    "following_weight": 0.0,
    "pl_weight": 0.0,
    "pl_interval": 4,
    "pl_start_kimg": 1000.0,
    "pl_decay": 0.01,
    "pl_batch_shrink": 2,
}
T = {"order": "d_first", "average_w": "all_phases", "blur_init_sigma": 32.0, "blur_fade_kimg": 1000.0}


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        (None, {}),
        ("xl-stem", {"pl_weight": 0.25}),
        ("xl-superres", {"cls_weight": 1.0}),
        ("t", {**T, "clip_weight": 1.6}),
        ("t-text-encoder", {**T, "clip_weight": 400.0}),
    ],
)
def test_every_setting_has_the_papers_value(preset, changes):
    config = ObjectiveConfig() if preset is None else objective_preset(preset)
    settings = {name: value for name, value in vars(config).items() if not name.startswith("_")}
    assert settings == pytest.approx({**DEFAULTS, **changes})
    assert {name: type(value) for name, value in settings.items()} == {
        name: type(value) for name, value in DEFAULTS.items()
    }


def test_weights_of_the_releases_depend_on_the_micro_batch():
    assert (cls_weight_from_release(8.0), cls_weight_from_release(8.0, 4)) == (1.0, 2.0)
    assert (clip_weight_from_release(0.2), clip_weight_from_release(0.2, 4)) == pytest.approx((1.6, 0.8))
    assert (pl_weight_from_release(2.0), pl_weight_from_release(2.0, 4)) == (0.25, 0.5)
    with pytest.raises(ValueError, match="choose one of t, t-text-encoder, xl-stem, xl-superres"):
        objective_preset("xl")


ZERO = ("blur_init_sigma", "blur_fade_kimg", "cls_weight", "clip_weight", "stem_weight", "pl_weight",
        "d_alone_kimg", "mismatch_weight", "gradient_penalty", "diversity_weight",
        "following_weight",
        "pl_start_kimg")  # fmt: skip
ONE = ("clip_crop", "pl_interval", "pl_batch_shrink")


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        *(({name: 0}, True) for name in ZERO),
        *(({name: -0.01}, False) for name in ZERO),
        *(({name: math.nan}, False) for name in ZERO),
        *(({name: 1}, True) for name in ONE),
        *(({name: 0}, False) for name in ONE),
        ({"diversity_share": 1.0}, True),
        ({"diversity_share": 0.0}, False),
        ({"diversity_share": 1.01}, False),
        ({"pl_decay": 1.0}, True),
        ({"pl_decay": 0.001}, True),
        ({"pl_decay": 0.0}, False),
        ({"pl_decay": 1.01}, False),
        ({"share_fakes": True}, True),
        ({"share_fakes": True, "order": "d_first"}, False),
        ({"share_fakes": True, "gradient_penalty": 0.5}, False),
        ({"gradient_penalty": 0.5, "order": "d_first"}, True),
    ],
)
def test_settings_end_where_they_are_said_to(settings, allowed):
    if allowed:
        ObjectiveConfig(**settings)
    else:
        with pytest.raises(ValueError, match=f"objective.{next(iter(settings))}"):
            ObjectiveConfig(**settings)


def test_adversarial_losses_by_hand():
    real, fake = [torch.tensor([[0.5, 3.0]])], [torch.tensor([[-0.5, -2.0]])]
    assert hinge_d_loss(real, fake).item() == pytest.approx(0.5 / 2 + 0.5 / 2)
    assert hinge_g_loss(fake).item() == pytest.approx(1.25)
    pair = [math.log1p(math.exp(-1.0)), math.log1p(math.exp(-5.0))]
    assert relativistic_loss(real, fake).item() == pytest.approx(sum(pair) / 2)
    assert mean_logit([*real, torch.zeros(2, 1)]).item() == pytest.approx(3.5 / 4)
    assert mean_sign([*fake, torch.tensor([[2.0]])]).item() == pytest.approx(-1 / 3)
    assert wide(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert wide(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    low = [torch.tensor([[1.0]], dtype=torch.bfloat16)]
    assert relativistic_loss(low, low).dtype == hinge_g_loss(low).dtype == torch.float32


def test_angles_are_those_between_last_axes():
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 3, 5, generator=rng) for _ in range(2))
    cosine = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    torch.testing.assert_close(spherical_distance(a, b), cosine.acos().square())
    assert spherical_distance(a.bfloat16(), b).dtype == torch.float32
    # Equal and opposite vectors stop just short of the ends, where gradients are finite.
    equal, opposite = spherical_distance(a, a), spherical_distance(a, -a)
    torch.testing.assert_close(equal, torch.full((2, 3), (2 * math.asin(1e-6)) ** 2), rtol=1e-3, atol=0)
    torch.testing.assert_close(
        opposite, torch.full((2, 3), (2 * math.asin((1 - 1e-6) ** 0.5)) ** 2), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (9, 9), (5, 5), (4, 9), (3, 4)])
def test_crops_lie_where_the_stream_says(shape):
    images = torch.arange(2 * 3 * math.prod(shape)).reshape(2, 3, *shape)
    for seed in range(8):
        cropped = random_crop(images, 5, torch.Generator().manual_seed(seed))
        if max(shape) <= 5:
            assert cropped is images
            continue
        rng = torch.Generator().manual_seed(seed)
        top, left = (int(torch.randint(max(side - 5, 0) + 1, (), generator=rng)) for side in shape)
        assert torch.equal(cropped, images[:, :, top : top + 5, left : left + 5])
    torch.manual_seed(3)
    without = random_crop(images, 5)
    torch.manual_seed(3)
    assert torch.equal(without, random_crop(images, 5, torch.default_generator))


class Eye:
    """An image tower of 2 pixels that remembers what it saw."""

    image_size = 2

    def encode_image(self, images01):
        self.seen = images01
        return images01.mean((2, 3))

    def logits(self, images01):
        return 3 * images01.mean((2, 3))


@pytest.mark.parametrize(("side", "cropped"), [(64, False), (66, True)])
def test_clip_sees_crops_of_64_pixels_unless_told_otherwise(side, cropped):
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    eye, text = Eye(), torch.eye(2, 3)
    value = clip_guidance(eye, images, text, rng=torch.Generator().manual_seed(5))
    window = random_crop(images, 64, torch.Generator().manual_seed(5)) if cropped else images
    small = F.avg_pool2d(window / 2 + 0.5, 32)
    torch.testing.assert_close(eye.seen, small)
    torch.testing.assert_close(value, spherical_distance(small.mean((2, 3)), text).mean())


class Below:
    """A stem whose pictures are gray."""

    def images(self):
        return torch.full((2, 1, 4, 4), 0.5)


def test_guidance_is_the_weighted_sum_of_its_parts():
    eye, config = Eye(), ObjectiveConfig(cls_weight=0.5, clip_weight=0.25, stem_weight=0.125, clip_crop=4)
    guide = Objective(config, classifier=eye, clip=eye, stem=Below()).guidance
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels, text = torch.tensor([2, 0]), torch.eye(2, 3)
    cond = Conditioning(labels=labels, guide=text)
    total, parts = guide(images, cond, torch.Generator().manual_seed(6))
    expected = {
        "loss/classifier": F.cross_entropy(eye.logits(images / 2 + 0.5), labels),
        "loss/clip": clip_guidance(eye, images, text, crop=4, rng=torch.Generator().manual_seed(6)),
        "loss/stem": (F.avg_pool2d(images, 2) - 0.5).square().mean(),
    }
    torch.testing.assert_close(parts, expected)
    weights = {"loss/classifier": 0.5, "loss/clip": 0.25, "loss/stem": 0.125}
    torch.testing.assert_close(total, sum(weights[name] * value for name, value in expected.items()))
    nothing, parts = Objective(ObjectiveConfig()).guidance(images, Conditioning())
    assert (nothing.item(), nothing.shape, parts) == (0.0, (), {})


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ("cls_weight", "conditioning.classifier"),
        ("clip_weight", "image tower"),
        ("stem_weight", "to grow on"),
    ],
)
def test_small_weights_want_their_networks_too(weight, words):
    with pytest.raises(ValueError, match=f"objective.{weight}=0.5 needs .*{words}"):
        Objective(ObjectiveConfig(**{weight: 0.5}))


def test_path_lengths_pull_to_their_running_mean():
    lengths = PathLength(decay=0.25)
    assert lengths.mean.shape == ()
    first, second = torch.tensor([1.0, 3.0]), torch.tensor([4.0, 8.0])
    mean = 0.25 * 2.0
    assert lengths.penalty(first).item() == pytest.approx(((1 - mean) ** 2 + (3 - mean) ** 2) / 2)
    assert lengths.mean.item() == pytest.approx(mean)
    mean = 0.75 * mean + 0.25 * 6.0
    assert lengths.penalty(second).item() == pytest.approx(((4 - mean) ** 2 + (8 - mean) ** 2) / 2)
    assert lengths.mean.item() == pytest.approx(mean)
    assert not lengths.mean.requires_grad
    assert PathLength().decay == 0.01
    assert set(lengths.state_dict()) == {"mean"}


def test_the_probing_image_is_normal_over_the_root_of_its_pixels():
    noise = path_noise((2, 3, 4, 16), torch.Generator().manual_seed(4), torch.device("cpu"))
    plain = torch.randn(2, 3, 4, 16, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(noise, plain / 8)
    torch.manual_seed(4)
    torch.testing.assert_close(path_noise((2, 3, 4, 16), None, torch.device("cpu")), plain / 8)


def test_slopes_are_those_of_each_image_with_unequal_sides():
    fake, real = (torch.randn(n, 1, 2, 2, generator=torch.Generator().manual_seed(n)) for n in (1, 3))

    def heads(maps, c, *, slopes):
        (x,) = maps[0]
        return [x.square().sum((1, 2, 3))[:, None] * c], [[2 * x * c]]

    conds = torch.tensor(2.0), torch.tensor(3.0)
    logits = read_with_slopes(heads, lambda x: [[x * 1]], (fake, real), conds)
    torch.testing.assert_close(logits[0], [2 * fake.square().sum((1, 2, 3))[:, None]])
    torch.testing.assert_close(logits[1], [3 * real.square().sum((1, 2, 3))[:, None]])
    squares = torch.cat([16 * fake.square().sum((1, 2, 3)), 36 * real.square().sum((1, 2, 3))])
    torch.testing.assert_close(logits[2], squares)
