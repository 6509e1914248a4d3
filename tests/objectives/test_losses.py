"""Hinge losses, guidance, path length and weights behave as their formulas say."""

import math

import pytest
import torch
from torch.nn import functional as F

from sgxl_t.objectives import (
    ObjectiveConfig,
    PathLength,
    classifier_guidance,
    clip_guidance,
    hinge_d_loss,
    hinge_g_loss,
    objective_preset,
    spherical_distance,
)
from sgxl_t.objectives.guidance import random_crop
from sgxl_t.objectives.path_length import path_noise


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_hinge_is_a_mean_per_network_and_a_sum_over_networks():
    real = [torch.full((4, 3), 0.5), torch.full((4, 7), 2.0)]
    fake = [torch.full((4, 3), -0.25), torch.full((4, 7), 1.0)]
    assert hinge_d_loss(real, fake).item() == pytest.approx(0.5 + 0.75 + 0.0 + 2.0)
    assert hinge_g_loss(fake).item() == pytest.approx(0.25 - 1.0)


def test_hinge_does_not_depend_on_how_a_batch_is_split():
    logits = torch.randn(8, 5, generator=rng())
    halves = (hinge_g_loss([logits[:4]]) + hinge_g_loss([logits[4:]])) / 2
    torch.testing.assert_close(hinge_g_loss([logits]), halves)


def test_hinge_wants_one_tensor_per_network_on_both_sides():
    with pytest.raises(ValueError, match="1 real and 0 fake"):
        hinge_d_loss([torch.zeros(1, 1)], [])
    with pytest.raises(ValueError, match="no logits"):
        hinge_g_loss([])


def test_spherical_distance_has_the_known_angles_and_finite_gradients_everywhere():
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [2.0, 0.0]], requires_grad=True)
    b = torch.tensor([[0.0, 3.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 1e-4]])
    angles = spherical_distance(a, b)
    expected = torch.tensor([(math.pi / 2) ** 2, 0.0, math.pi**2, 1e-8])
    torch.testing.assert_close(angles, expected, rtol=2e-3, atol=1e-10)
    angles.sum().backward()
    assert torch.isfinite(a.grad).all()


class Linear:
    """Stands for a frozen network: one linear map."""

    def __init__(self, size, width):
        self.image_size = size
        self.weight = torch.randn(width, 3 * size * size, generator=rng(3))

    def logits(self, images01):
        assert images01.shape[-1] == self.image_size
        return images01.flatten(1) @ self.weight.T

    encode_image = logits


def test_classifier_guidance_maps_images_to_unit_range():
    classifier = Linear(8, 5)
    images = torch.rand(2, 3, 8, 8, generator=rng()) * 2 - 1
    labels = torch.tensor([1, 4])
    expected = F.cross_entropy(((images + 1) / 2).flatten(1) @ classifier.weight.T, labels)
    torch.testing.assert_close(classifier_guidance(classifier, images, labels), expected)


@pytest.mark.parametrize(("side", "crop"), [(16, 64), (16, 8)])
def test_clip_guidance_crops_only_larger_images(side, crop):
    clip = Linear(8, 6)
    images = torch.rand(2, 3, side, side, generator=rng()) * 2 - 1
    text = torch.randn(2, 6, generator=rng(1))
    window = random_crop(images, crop, rng(5)) if crop < side else images
    features = clip.encode_image(F.adaptive_avg_pool2d((window + 1) / 2, 8))
    ours = clip_guidance(clip, images, text, crop=crop, rng=rng(5))
    torch.testing.assert_close(ours, spherical_distance(features, text).mean())


def test_random_crop_reaches_every_corner():
    images = torch.arange(16.0).reshape(1, 1, 4, 4)
    corners = {random_crop(images, 2, rng(seed))[0, 0, 0, 0].item() for seed in range(200)}
    assert {0.0, 2.0, 8.0, 10.0} <= corners
    assert len(corners) == 9


def test_path_length_gradient_flows_through_the_running_mean():
    lengths = torch.tensor([1.0, 3.0], requires_grad=True)
    state = PathLength(decay=0.1)
    state.penalty(lengths).backward()
    plain = torch.tensor([1.0, 3.0], requires_grad=True)
    (plain - 0.1 * plain.mean()).square().mean().backward()
    torch.testing.assert_close(lengths.grad, plain.grad)
    assert state.mean.item() == pytest.approx(0.2)


def test_path_length_mean_survives_a_checkpoint():
    state, restored = PathLength(), PathLength()
    state.penalty(torch.tensor([4.0]))
    restored.load_state_dict(state.state_dict())
    assert restored.mean.item() == pytest.approx(0.04)


def test_path_noise_has_unit_energy_per_channel():
    noise = path_noise((2, 3, 64, 64), rng(), torch.device("cpu"))
    torch.testing.assert_close(noise.square().sum((2, 3)), torch.ones(2, 3), rtol=0.1, atol=0)


def test_presets_translate_the_papers_weights():
    assert objective_preset("xl-superres").cls_weight == 1.0
    assert objective_preset("t").clip_weight == pytest.approx(1.6)
    assert objective_preset("t-text-encoder").clip_weight == 400.0
    assert objective_preset("xl-stem").pl_weight == 0.25
    with pytest.raises(ValueError, match="xl-stem"):
        objective_preset("xl")


@pytest.mark.parametrize(
    "field",
    [{"cls_weight": -1.0}, {"pl_interval": 0}, {"pl_decay": 0.0}, {"blur_init_sigma": float("nan")}],
)
def test_impossible_settings_are_named(field):
    with pytest.raises(ValueError, match=f"objective.{next(iter(field))}="):
        ObjectiveConfig(**field)
