"""Two latents under one condition are drawn apart: the term, its weight and what it leaves alone."""

import pytest
import torch
from torch import nn

from sgxl_t.networks.conditioning import as_conditioning
from sgxl_t.objectives import MicroBatch, Networks, Objective, ObjectiveConfig
from sgxl_t.objectives.diversity import mode_seeking_features, mode_seeking_loss, more_latents


class Linear(nn.Module):
    """Pictures of 4 px, a linear function of latent and condition; remembers what it was asked for."""

    def __init__(self):
        super().__init__()
        self.of_z, self.of_c = nn.Linear(4, 48), nn.Linear(2, 48)

    def forward(self, z, cond, *, update_averages=False, rng=None):
        self.z, self.c = z, as_conditioning(cond).c
        return (self.of_z(z) + self.of_c(self.c)).reshape(-1, 3, 4, 4)


def heads(seen, cond):
    assert len(seen[0]) == len(cond.target), "heads see each picture of the batch once, and no more"
    return [seen[0].mean((1, 2, 3))[:, None]]


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return Networks(Linear(), heads, lambda x, rng: [x])


def g_loss(networks, z, c, **settings):
    objective = Objective(ObjectiveConfig(blur_init_sigma=0, **settings))
    rng = torch.Generator().manual_seed(5)
    return objective.g_loss(networks, MicroBatch(None, as_conditioning(c)), z, 0, rng)


def test_the_term_is_the_latents_distance_over_the_pictures():
    images, others = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.49)
    others[1] = -0.99
    z, other_z = torch.zeros(2, 8), torch.tensor([[1.0] * 8, [-4.0] * 8])
    torch.testing.assert_close(
        mode_seeking_loss(images, others, z, other_z), torch.tensor((1 / 0.5 + 4 / 1.0) / 2)
    )


def test_it_is_lower_the_more_pictures_differ_and_finite_where_they_are_equal():
    picture, z, other_z = torch.rand(3, 3, 4, 4), torch.randn(3, 8), torch.randn(3, 8)
    values = [mode_seeking_loss(picture, picture + by, z, other_z) for by in (0.0, 0.1, 0.4)]
    assert values[0] > values[1] > values[2] > 0
    assert torch.isfinite(values[0])


def test_features_are_compared_averaged_over_places_and_by_their_usual_distance():
    maps = torch.zeros(4, 2, 3, 3)
    maps[1] = maps[3] = 2.0  # neighbours are 2 apart, image 0 and the last one too
    other = torch.full((1, 2, 3, 3), 0.5)
    z, other_z = torch.zeros(1, 8), torch.full((1, 8), 3.0)
    apart = 3 * 2 / (0.5 + 0.05 * 2)
    torch.testing.assert_close(mode_seeking_features([maps], [other], z, other_z), torch.tensor(apart))
    both = mode_seeking_features([[maps], [10 * maps]], [[other], [20 * other]], z, other_z)
    torch.testing.assert_close(both, torch.tensor((apart + 3 * 20 / (10 + 0.05 * 20)) / 2))


def test_features_that_only_move_are_the_same_and_those_that_never_differ_stay_finite():
    maps, z, other_z = torch.rand(3, 2, 4, 4), torch.zeros(2, 8), torch.ones(2, 8)
    moved = mode_seeking_features([maps], [maps[:2].roll(1, dims=3)], z, other_z)
    torch.testing.assert_close(moved, torch.tensor(1 / 0.05), rtol=1e-4, atol=0)
    assert torch.isfinite(mode_seeking_features([maps * 0], [maps[:2] * 0], z, other_z))


def test_features_of_other_conditions_are_not_widened():
    maps = torch.rand(3, 2, 4, 4, requires_grad=True)
    mode_seeking_features([maps], [torch.rand(1, 2, 4, 4)], torch.zeros(1, 8), torch.ones(1, 8)).backward()
    assert maps.grad[0].any()
    assert not maps.grad[1:].any()


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(8, 0.25, 2), (1, 0.25, 1), (6, 1.0, 6), (32, 0.5, 16)]
)
def test_a_share_of_the_batch_gets_second_latents(count, share, expected):
    z = torch.randn(count, 4)
    first, again = (more_latents(z, share, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == (expected, 4)
    assert torch.equal(first, again)
    assert not torch.isclose(first, z[:expected]).any()


def test_the_generators_loss_holds_the_weighted_term_of_equal_conditions(networks):
    z, c = torch.randn(8, 4), torch.randn(8, 2)
    value, stats = g_loss(networks, z, c, diversity_weight=3.0)
    asked_z, asked_c = networks.generator.z, networks.generator.c
    torch.testing.assert_close(asked_c[8:], c[:2])
    images = networks.generator(asked_z, as_conditioning(asked_c))
    expected = mode_seeking_loss(images[:2], images[8:], z[:2], asked_z[8:])
    plain, others = g_loss(networks, z, c)
    torch.testing.assert_close(value - plain, 3 * expected)
    torch.testing.assert_close(stats["loss/diversity"], expected.detach())
    torch.testing.assert_close(stats["loss/g_adversarial"], others["loss/g_adversarial"])
    assert "loss/diversity" not in others
    assert len(networks.generator.z) == 8, "without a weight no picture is made for it"


def test_the_term_can_compare_what_the_frozen_features_see(networks):
    z, c = torch.randn(8, 4), torch.randn(8, 2)
    value, stats = g_loss(networks, z, c, diversity_weight=3.0, diversity_of="features")
    asked_z, asked_c = networks.generator.z, networks.generator.c
    images = networks.generator(asked_z, as_conditioning(asked_c))
    expected = mode_seeking_features([images[:8]], [images[8:]], z[:2], asked_z[8:])
    torch.testing.assert_close(value - g_loss(networks, z, c)[0], 3 * expected)
    torch.testing.assert_close(stats["loss/diversity"], expected.detach())


def test_a_step_down_the_loss_makes_pictures_of_one_condition_differ_more(networks):
    z, c = torch.randn(8, 4), torch.randn(8, 2)
    value, before = g_loss(networks, z, c, diversity_weight=10.0)
    value.backward()
    with torch.no_grad():
        for parameter in networks.generator.parameters():
            parameter -= 1e-3 * parameter.grad
    _, after = g_loss(networks, z, c, diversity_weight=10.0)
    assert after["loss/diversity"] < before["loss/diversity"]


def test_shared_fakes_are_those_of_the_batch_alone(networks):
    batch = MicroBatch(torch.rand(8, 3, 4, 4), as_conditioning(torch.randn(8, 2)))
    config = ObjectiveConfig(blur_init_sigma=0, share_fakes=True, diversity_weight=1.0, diversity_share=0.5)
    Objective(config).g_loss(networks, batch, torch.randn(8, 4), 0)
    assert [len(features) for features in batch.shared_fakes[0]] == [8]


def test_a_share_outside_the_batch_is_refused():
    with pytest.raises(ValueError, match=r"objective.diversity_share=1.5 must lie in \(0, 1\]"):
        ObjectiveConfig(diversity_share=1.5)
