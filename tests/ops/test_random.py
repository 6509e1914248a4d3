"""The rules by which seeds become generators: runs, metrics and images that exist were made with them."""

import random

import torch

from sgxl_t.ops.random import epoch_rng, latents, python_rng, rollback_seed, sample_rng, training_rng


def test_the_rules_are_those_of_the_first_runs():
    assert training_rng(7, "g", 0).initial_seed() == 7000167000814001129
    assert training_rng(7, "d1", 64).initial_seed() == 5336873666300962349
    assert epoch_rng(3, 4).initial_seed() == 3 * 1_000_003 + 4
    assert rollback_seed(3, 2) == 3 + 2 * 1_000_003
    assert sample_rng(3, 5).initial_seed() == 8
    assert sample_rng(3, 5, "shift").initial_seed() == 4121838491657284696
    assert sample_rng(3, 5, "note").initial_seed() == 5277931703770175534
    assert python_rng("shards", 3, 0).random() == random.Random("shards/3/0").random() == 0.5700239768824947


def test_roles_and_places_have_numbers_of_their_own():
    keys = [("g", 0), ("g", 1), ("d", 0), ("g1", 0), ("1g", 0)]
    assert len({training_rng(0, *key).initial_seed() for key in keys}) == len(keys)


def test_a_latent_is_a_function_of_its_own_seed():
    assert torch.equal(latents([5, 9, 2], 64)[1:], latents([9, 2], 64))
    assert torch.equal(latents([8], 4)[0], torch.randn(4, generator=sample_rng(3, 5)))
