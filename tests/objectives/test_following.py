"""A generator that is told of pictures is known by them: the contrast, and what it leaves alone."""

import math

import pytest
import torch
from torch.testing import assert_close

from sgxl_t.objectives.following import TEMPERATURE, following_loss

EVERY = torch.ones(6, dtype=torch.bool)


@pytest.fixture
def shown():
    """Two networks' maps of six real pictures, two levels the first and one the second."""
    rng = torch.Generator().manual_seed(0)
    shapes = [(6, 24, 4, 4), (6, 16, 2, 2)], [(6, 32, 4, 4)]
    return [[torch.randn(shape, generator=rng) for shape in network] for network in shapes]


def moved(features):
    """The same maps, mirrored and at other places."""
    return [[one.flip(-1).roll(1, -2) for one in network] for network in features]


def test_the_picture_itself_is_found_wherever_things_are_in_it(shown):
    assert following_loss(shown, shown, EVERY) < 0.01
    assert_close(following_loss(moved(shown), shown, EVERY), following_loss(shown, shown, EVERY))


def test_pictures_that_are_all_alike_say_nothing(shown):
    alike = [[one.mean(0, keepdim=True).expand_as(one) for one in network] for network in shown]
    assert_close(following_loss(alike, shown, EVERY), torch.tensor(math.log(6)))


def test_the_neighbours_picture_is_worse_than_none(shown):
    wrong = [[one.roll(1, 0) for one in network] for network in shown]
    assert following_loss(wrong, shown, EVERY) > math.log(6)


def test_those_alone_count_that_were_told_of_the_picture_in_their_place(shown):
    told = torch.tensor([True, False] * 3)
    partly = [[torch.where(told.reshape(-1, 1, 1, 1), one, one.roll(1, 0)) for one in n] for n in shown]
    assert_close(following_loss(partly, shown, told), following_loss(shown, shown, told))
    assert following_loss(partly, shown, ~told) > math.log(6)


def test_it_is_the_cross_entropy_of_cosines_in_units_of_the_real_spread():
    rng = torch.Generator().manual_seed(1)
    made, real = torch.randn(4, 8, generator=rng), 5 + 3 * torch.randn(4, 8, generator=rng)
    a, b = ((x - real.mean(0)) / real.std(0, correction=0) for x in (made, real))
    cosines = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2)
    expected = -(cosines / TEMPERATURE).log_softmax(1).diagonal().mean()
    maps = [[x[:, :, None, None]] for x in (made, real)]
    assert_close(following_loss([maps[0]], [maps[1]], EVERY[:4]), expected, rtol=1e-4, atol=1e-4)


def test_its_gradient_leads_to_the_picture(shown):
    made = [[one.roll(1, 0).clone().requires_grad_() for one in network] for network in shown]
    before = following_loss(made, shown, EVERY)
    before.backward()
    stepped = [[(one - 20 * one.grad).detach() for one in network] for network in made]
    assert following_loss(stepped, shown, EVERY) < before
