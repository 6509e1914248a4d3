"""Moving averages and learning rates have the values that their formulas give."""

import pytest
import torch
from torch import nn

from sgxl_t.training.config.config import EmaConfig
from sgxl_t.training.loop.ema import Ema, ema_decay
from sgxl_t.training.loop.learning_rate import learning_rate_factor


@pytest.mark.parametrize(
    ("half_life_kimg", "rampup", "images_seen", "half_life"),
    [
        (10.0, None, 0, 10_000),
        (10.0, None, 10**7, 10_000),
        (10.0, 0.05, 100_000, 5_000),  # the ramp: a twentieth of the images seen
        (10.0, 0.05, 200_000, 10_000),
        (10.0, 0.05, 10**7, 10_000),  # never beyond the half life
        (0.5, 0.05, 4_000, 200),
    ],
)
def test_an_old_weights_share_halves_every_half_life(half_life_kimg, rampup, images_seen, half_life):
    config = EmaConfig(half_life_kimg=half_life_kimg, rampup=rampup)
    assert ema_decay(config, 64, images_seen) == pytest.approx(0.5 ** (64 / half_life), rel=1e-12)
    assert ema_decay(config, half_life, images_seen) == pytest.approx(0.5, rel=1e-12)


def test_the_first_update_of_a_ramp_copies_the_weights():
    assert ema_decay(EmaConfig(rampup=0.05), 1, 0) == 0
    assert ema_decay(EmaConfig(half_life_kimg=0.0, rampup=None), 1, 10**6) == 0
    # Half lives below 1e-8 images count as that many.
    assert ema_decay(EmaConfig(half_life_kimg=0.0, rampup=None), 1e-8, 0) == 0.5
    assert EmaConfig() == EmaConfig(half_life_kimg=10.0, rampup=0.05)


def test_an_average_moves_by_the_decay_and_copies_buffers():
    network = nn.BatchNorm1d(3)
    ema = Ema(network, EmaConfig(half_life_kimg=0.1, rampup=None))
    assert ema.network is not network
    assert not ema.network.training
    assert not any(parameter.requires_grad for parameter in ema.network.parameters())
    with torch.no_grad():
        network.weight.fill_(5.0)
        network.running_mean.fill_(7.0)
    ema.update(network.parameters(), network.buffers(), 50, 0)
    share = 0.5**0.5  # of the old weights, which were ones and zeros
    torch.testing.assert_close(ema.network.weight, torch.full((3,), share + (1 - share) * 5))
    torch.testing.assert_close(ema.network.bias, torch.zeros(3))
    assert torch.equal(ema.network.running_mean, network.running_mean)
    assert network.weight.requires_grad


def test_the_ramp_counts_images_before_the_update_and_networks_may_have_no_buffers():
    network = nn.Linear(2, 1)
    ema = Ema(network, EmaConfig(half_life_kimg=10.0, rampup=0.5))
    before = ema.network.weight.clone()
    with torch.no_grad():
        network.weight.add_(1.0)
    ema.update(network.parameters(), network.buffers(), 100, 100)
    torch.testing.assert_close(ema.network.weight, before + 1 - 0.5 ** (100 / 50))


@pytest.mark.parametrize(
    ("share", "images_seen", "factor"),
    [
        (0.25, 0, 1.0),
        (0.25, 400, 1.0),
        (0.25, 500, 1.0),
        (0.25, 750, 0.625),
        (0.25, 1000, 0.25),
        (0.0, 900, 0.2),
        (1.0, 1000, 1.0),
    ],
)
def test_learning_rates_fall_linearly_over_the_last_half(share, images_seen, factor):
    assert learning_rate_factor(images_seen, 1000, share) == pytest.approx(factor)
