"""Values kept with weights: made once, and again after every kind of change."""

from __future__ import annotations

import torch

from sgxl_t.ops.conv.frozen import FrozenCache, fixed, fixed_weights
from sgxl_t.ops.conv.modulated_conv import modulated_conv_sg3
from sgxl_t.ops.reference import modulated_conv_sg3 as plain


def test_values_are_made_once_and_again_after_changes() -> None:
    calls = []
    cache = FrozenCache(lambda w: calls.append(1) or w * 2)
    weight = torch.randn(40, 30, 3, 3)
    changes = (
        lambda w: None,
        lambda w: w.mul_(3),
        lambda w: setattr(w, "data", torch.randn(40, 30, 3, 3)),
        # As sharded training does: new elements at the same address, and the version of before.
        lambda w: w.numpy().__imul__(2),
    )
    for count, change in enumerate(changes, 1):
        change(weight)
        assert torch.equal(cache(weight), weight * 2)
        assert torch.equal(cache(weight), weight * 2)
        assert len(calls) == count
    del weight
    assert len(cache) == 0


def test_weights_in_training_keep_nothing() -> None:
    cache = FrozenCache(lambda w: w * 2)
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    assert cache(weight).requires_grad
    assert len(cache) == 0
    with torch.no_grad():
        assert not cache(weight).requires_grad
    assert len(cache) == 1


def test_weights_of_any_layout_are_told_apart() -> None:
    cache = FrozenCache(lambda w: w * 2)
    weight = torch.randn(8, 4, 3, 3).contiguous(memory_format=torch.channels_last)
    cache(weight)
    with torch.no_grad():
        weight.add_(1)
    assert torch.equal(cache(weight), weight * 2)


def test_sampling_between_steps_of_training_sees_the_steps() -> None:
    x, s = torch.randn(2, 4, 6, 6), torch.randn(2, 4)
    weight = torch.nn.Parameter(torch.randn(3, 4, 3, 3))
    optimiser = torch.optim.Adam([weight], lr=0.1)
    for mode in (torch.no_grad, torch.inference_mode, torch.no_grad):
        with mode():
            torch.testing.assert_close(modulated_conv_sg3(x, weight, s), plain(x, weight, s))
        modulated_conv_sg3(x, weight, s).square().sum().backward()
        optimiser.step()


def test_said_to_be_fixed_values_are_kept_wherever_the_weight_lies() -> None:
    cache = FrozenCache(lambda w: w * 2)
    # As good as a GPU here: a device whose elements cannot be looked at.
    weight = torch.randn(4, 3, 3, 3, device="meta")
    assert cache(weight) is not cache(weight)
    with fixed_weights() as used:
        value = cache(weight)
        assert cache(weight) is value
    assert list(used.values()) == [value]
    with fixed_weights():
        weight.mul_(3)
        changed = cache(weight)
        assert changed is not value
        assert cache(weight) is changed
    assert not fixed()
