"""Weights in half precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sgxl_t.ops.conv import rounding
from sgxl_t.ops.conv.rounding import rounded


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_errors_of_frozen_taps_cancel_on_smooth_maps(dtype: torch.dtype) -> None:
    stream = torch.Generator().manual_seed(0)
    weight = torch.randn(32, 32, 3, 3, generator=stream)
    smooth = F.interpolate(torch.rand(1, 32, 3, 3, generator=stream), size=24, mode="bicubic") + 0.5
    exact = F.conv2d(smooth, weight)

    def error(taps: torch.Tensor) -> float:
        return float((F.conv2d(smooth, taps.float()) - exact).norm() / exact.norm())

    frozen = rounded(weight, dtype)
    assert frozen.dtype == dtype
    assert error(frozen) < 0.6 * error(weight.to(dtype))
    largest = torch.finfo(dtype).eps * weight.abs().max()
    assert (frozen.float() - weight).abs().max() < 1.5 * largest


def test_frozen_weights_are_rounded_once_and_anew_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    carried = rounding._carried
    monkeypatch.setattr(rounding, "_carried", lambda *a: made.append(0) or carried(*a))
    weight = torch.randn(4, 4, 3, 3)
    assert rounded(weight, torch.bfloat16) is rounded(weight, torch.bfloat16)
    assert len(made) == 1
    weight.mul_(2)
    assert torch.equal(rounded(weight, torch.bfloat16), carried(weight, torch.bfloat16))
    assert len(made) == 2


def test_weights_that_learn_are_rounded_tap_by_tap_with_their_gradient() -> None:
    weight = torch.randn(4, 4, 3, 3, requires_grad=True)
    low = rounded(weight, torch.bfloat16)
    assert torch.equal(low, weight.to(torch.bfloat16))
    low.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))
    assert rounded(weight, torch.float32) is weight
