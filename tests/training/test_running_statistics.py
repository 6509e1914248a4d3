"""Running statistics take all rounds and processes together."""

import torch
from torch import nn

from sgxl_t.training.loop.running_statistics import RunningStatistics


class Averages(nn.Module):
    def __init__(self, classes=None):
        super().__init__()
        self.register_buffer("w_avg", torch.zeros(2) if classes is None else torch.zeros(classes, 2))
        self.register_buffer("filter", torch.full((2,), 1 / 3))


def over(network, rounds, move, *, mean=lambda value: value, world_size=1):
    statistics = RunningStatistics((network,), (), mean=mean, world_size=world_size)
    for part in statistics.over(rounds):
        move(network, part)


def move_towards(network, value):
    network.w_avg.lerp_(torch.full((2,), value), 0.5)


def test_rounds_start_alike_and_their_mean_stays():
    network = Averages()
    over(network, [1.0, 3.0], move_towards)
    torch.testing.assert_close(network.w_avg, torch.full((2,), 1.0))  # the mean of 0.5 and 1.5


def test_processes_count_as_rounds_do():
    network = Averages()
    over(network, [1.0], move_towards, mean=lambda value: (value + 1.5) / 2, world_size=2)
    torch.testing.assert_close(network.w_avg, torch.full((2,), 1.0))


def test_a_class_that_one_round_of_four_has_seen_moves_as_far_as_alone():
    network = Averages(classes=3)

    def move(network, row):
        network.w_avg[row] += 0.25

    over(network, [0, 0, 1, 2], move)
    assert network.w_avg[:, 0].tolist() == [0.5, 0.25, 0.25]


def test_constants_are_left_alone_to_the_last_bit():
    network = Averages()
    before = network.filter.clone()
    over(network, [1.0, 2.0, 3.0], move_towards)
    assert torch.equal(network.filter, before)


def test_a_round_with_nan_leaves_all_as_it_was():
    network = Averages()
    over(network, [1.0], move_towards)
    before = network.w_avg.clone()
    over(network, [float("nan"), 1.0], move_towards)
    assert torch.equal(network.w_avg, before)
    over(network, [1.0], move_towards)
    assert not torch.equal(network.w_avg, before)
