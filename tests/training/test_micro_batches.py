"""A global batch in one, two or four rounds is one update, except for what layers gather per call.

That is batch norm alone.
"""

import pytest
import torch
from tiny_runs import tiny_run

from sgxl_t.training.build_trainer import build_trainer
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.loop import trainer as trainer_module
from sgxl_t.training.parallel.runtime import Runtime

BATCH = 8
NO_BATCH_NORM = 64
"""An end_size above every map: the heads have no down blocks, and so no batch norm."""


def one_draw_per_batch(seed, role, position):
    """Latents of a round are the rows of the batch's one draw that the round takes, whatever its size."""
    start = position % BATCH
    rng = torch.Generator().manual_seed(sum(role.encode()) + position - start)
    torch.randn(start, 16, generator=rng)
    return rng


def weights_after_an_update(folder, features, per_device, end_size, monkeypatch):
    monkeypatch.setattr(trainer_module, "training_rng", one_draw_per_batch)
    arguments = tiny_run(
        folder,
        features,
        generator="stylegan3",
        batch__images=BATCH,
        batch__per_device=per_device,
        discriminator__projected__end_size=end_size,
        discriminator__diff_augment="",
        objective__cls_weight=0.5,
        objective__diversity_weight=0,  # pairs the pictures of a round
    )
    trainer = build_trainer(parse_config(arguments), Runtime(deterministic=False), folder)
    trainer.begin()
    trainer.data.open(trainer.state)
    for network in trainer.state.networks.values():
        # Adam's first step is the gradient's sign, which rounding turns where the gradient is zero.
        network.optimizer = torch.optim.SGD(network.trainable, lr=0.1, fused=True)
    trainer.update(trainer.next_batches())
    return {
        f"{name}/{key}": value.detach().clone()
        for name, network in trainer.state.networks.items()
        for key, value in network.raw.state_dict().items()
        if not key.endswith("w_avg")  # of classes: the moves of rounds add up, which is equal to first order
    }


def largest_difference(first, second):
    """Relative to the largest number of each tensor."""
    return max(
        float((first[name] - second[name]).abs().max() / first[name].abs().max().clamp(min=1e-3))
        for name in first
        if first[name].is_floating_point() and first[name].numel()
    )


@pytest.mark.parametrize("per_device", [4, 2])
def test_rounds_do_not_change_the_update_without_batch_norm(per_device, tmp_path, tiny_features, monkeypatch):
    whole = weights_after_an_update(tmp_path, tiny_features, BATCH, NO_BATCH_NORM, monkeypatch)
    parts = weights_after_an_update(tmp_path, tiny_features, per_device, NO_BATCH_NORM, monkeypatch)
    assert not any("running_mean" in name for name in whole)
    assert bool(whole["g/synthesis.input.affine.weight"].any())  # starts at zero, so the update has moved it
    assert largest_difference(whole, parts) < 1e-5


def test_batch_norm_sees_the_round_and_not_the_batch(tmp_path, tiny_features, monkeypatch):
    whole = weights_after_an_update(tmp_path, tiny_features, BATCH, 4, monkeypatch)
    parts = weights_after_an_update(tmp_path, tiny_features, 2, 4, monkeypatch)
    assert any("running_mean" in name for name in whole)
    assert largest_difference(whole, parts) > 1e-2
