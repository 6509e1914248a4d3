"""A grown generator is drawn to what its stem makes of the same latents."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sgxl_t.networks.conditioning import as_conditioning
from sgxl_t.objectives import MicroBatch, Networks, Objective, ObjectiveConfig
from sgxl_t.objectives.guidance import stem_guidance


class Linear(nn.Module):
    """Pictures of one side, a linear function of latent and condition."""

    def __init__(self, side):
        super().__init__()
        self.side, self.net = side, nn.Linear(4 + 2, 3 * side * side)

    def forward(self, z, cond, *, update_averages=False, rng=None):
        return self.net(torch.cat([z, as_conditioning(cond).c], 1)).reshape(-1, 3, self.side, self.side)


def test_pictures_that_only_add_detail_cost_nothing():
    below = torch.rand(2, 3, 8, 8) * 2 - 1
    detail = torch.tensor([[0.3, -0.3], [-0.3, 0.3]]).repeat(8, 8)
    above = F.interpolate(below, scale_factor=2, mode="nearest") + detail
    assert stem_guidance(above, below) < 1e-12
    torch.testing.assert_close(stem_guidance(above + 0.5, below), torch.tensor(0.25))


class Below:
    """Pictures of a stem, whatever the latents."""

    def __init__(self):
        self.pictures = torch.rand(5, 3, 8, 8)

    def images(self):
        return self.pictures


def test_the_generators_loss_holds_the_weighted_difference():
    torch.manual_seed(0)
    generator, stem = Linear(16), Below()
    z, c = torch.randn(5, 4), torch.randn(5, 2)

    def loss(**settings):
        objective = Objective(ObjectiveConfig(blur_init_sigma=0, **settings), stem=stem)
        heads, features = lambda seen, cond: [seen[0].mean((1, 2, 3))[:, None]], lambda x, rng: [x]
        networks = Networks(generator, heads, features)
        return objective.g_loss(networks, MicroBatch(None, as_conditioning(c)), z, 0)

    difference = F.mse_loss(F.avg_pool2d(generator(z, c), 2), stem.images())
    value, stats = loss(stem_weight=3.0)
    torch.testing.assert_close(value - loss()[0], 3 * difference)
    torch.testing.assert_close(stats["loss/stem"], difference.detach())
    value.backward()
    assert generator.net.weight.grad.abs().sum() > 0


def test_a_weight_without_a_stem_is_refused():
    with pytest.raises(ValueError, match=r"objective.stem_weight=3.0 needs a generator to grow on"):
        Objective(ObjectiveConfig(stem_weight=3.0))


def test_second_latents_of_the_diversity_term_are_left_out():
    torch.manual_seed(0)
    generator, stem, z, c = Linear(16), Below(), torch.randn(5, 4), torch.randn(5, 2)
    difference = F.mse_loss(F.avg_pool2d(generator(z, c), 2), stem.pictures)
    stem.pictures = torch.cat([stem.pictures, torch.rand(1, 3, 8, 8)])
    objective = Objective(ObjectiveConfig(blur_init_sigma=0, stem_weight=1, diversity_weight=1), stem=stem)
    heads, features = lambda seen, cond: [seen[0].mean((1, 2, 3))[:, None]], lambda x, rng: [x]
    networks = Networks(generator, heads, features)
    _, stats = objective.g_loss(networks, MicroBatch(None, as_conditioning(c)), z, 0)
    torch.testing.assert_close(stats["loss/stem"], difference.detach())
