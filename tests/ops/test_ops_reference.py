"""Fast operators against the plain ones in float64, with gradients and gradients of gradients."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from ops_cases import (
    DOWN,
    F64,
    LRELU_CASES,
    SKEW,
    UP,
    assert_close,
    assert_equal_to_second_order,
    normal,
)
from torch import Tensor

from sgxl_t.ops import diff_augment, reference
from sgxl_t.ops.conv import modulated_conv
from sgxl_t.ops.conv.modulated_conv import ConvSpec
from sgxl_t.ops.filtered_lrelu import dispatch as filtered_lrelu
from sgxl_t.ops.filtered_lrelu.plan import LreluSpec
from sgxl_t.ops.resample import blur, filters, planes, resample

SAME_RATE = LreluSpec(up=2, down=2, padding=[9, 8, 9, 8])


@pytest.mark.parametrize("case", LRELU_CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_filtered_lrelu_equals_plain_form(case: str, layout: torch.memory_format) -> None:
    args = dict(LRELU_CASES[case])
    fu, fd = args.pop("fu"), args.pop("fd")
    x = normal(2, 3, 11, 14).detach().contiguous(memory_format=layout).requires_grad_()
    assert_equal_to_second_order(
        lambda x, b: filtered_lrelu.filtered_lrelu(x, fu, fd, b, LreluSpec(**args)),
        lambda x, b: reference.filtered_lrelu(x, fu, fd, b, LreluSpec(**args)),
        [x, normal(3)],
    )


@pytest.mark.parametrize("planes_per_chunk", [1, 2, 3, 7, 100])
def test_filtered_lrelu_does_not_depend_on_chunks(
    planes_per_chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planes, "_CPU_BYTES_PER_THREAD", 0)
    monkeypatch.setattr(planes, "_MIN_CPU_PLANES", planes_per_chunk)
    args: dict[str, Any] = {"up": 2, "down": 2, "padding": [9, 8, 9, 8], "clamp": 0.5}
    assert_equal_to_second_order(
        lambda x, b: filtered_lrelu.filtered_lrelu(x, UP, DOWN, b, LreluSpec(**args)),
        lambda x, b: reference.filtered_lrelu(x, UP, DOWN, b, LreluSpec(**args)),
        [normal(3, 5, 10, 9), normal(5)],
    )


@pytest.mark.parametrize("taps", [UP, SKEW, -SKEW])
@pytest.mark.parametrize("sample", [12, 13])
@pytest.mark.parametrize("share", [0.999, 1.001])
def test_clamp_that_only_the_worst_image_reaches(taps: Tensor, sample: int, share: float) -> None:
    # Every tap that meets in one upsampled sample finds the sign that enlarges the sample most.
    up: dict[str, Any] = {"up": 2, "padding": [9, 8, 9, 8]}
    x = normal(1, 1, 12, 12)
    enlarged = reference.upfirdn2d(x, taps, gain=4, **up)[0, 0, sample, sample]
    signs = torch.autograd.grad(enlarged, x)[0].sign()
    x = torch.where(signs == 0, x.sign(), signs).detach().requires_grad_()
    worst = reference.upfirdn2d(x, taps, gain=4 * 2**0.5, **up)[0, 0, sample, sample].item()
    spec = LreluSpec(down=2, clamp=worst * share, **up)
    assert_equal_to_second_order(
        lambda x, b: filtered_lrelu.filtered_lrelu(x, taps, DOWN, b, spec),
        lambda x, b: reference.filtered_lrelu(x, taps, DOWN, b, spec),
        [x, torch.zeros(1, dtype=F64, requires_grad=True)],
    )


@pytest.mark.parametrize("size", [16, 38, 86, 150])
def test_filtered_lrelu_in_blocks_at_layer_sizes(size: int) -> None:
    args: dict[str, Any] = {"up": 2, "down": 2, "padding": [9, 8, 9, 8], "clamp": 256}
    x, b = normal(1, 2, size, size, requires_grad=False), normal(2, requires_grad=False)
    ours = filtered_lrelu.filtered_lrelu(x, UP, DOWN, b, LreluSpec(**args))
    assert_close(ours, reference.filtered_lrelu(x, UP, DOWN, b, LreluSpec(**args)))
    single = filtered_lrelu.filtered_lrelu(x.float(), UP, DOWN, b.float(), LreluSpec(**args))
    torch.testing.assert_close(single.double(), ours, rtol=0, atol=1e-5 * ours.abs().max().item())


def test_filtered_lrelu_passes_gradgradcheck() -> None:
    def call(x: Tensor, b: Tensor) -> Tensor:
        return filtered_lrelu.filtered_lrelu(x, SKEW, SKEW[:4], b, LreluSpec(2, 2, [2, 3, 1, 2], clamp=0.9))

    assert torch.autograd.gradcheck(call, (normal(1, 2, 4, 3), normal(2)))
    assert torch.autograd.gradgradcheck(call, (normal(1, 2, 4, 3), normal(2)))


def test_filters_with_equal_shapes_are_kept_apart() -> None:
    x = normal(1, 2, 12, 12, requires_grad=False)
    for fd in (DOWN, UP, DOWN):
        ours = filtered_lrelu.filtered_lrelu(x, UP, fd, spec=SAME_RATE)
        assert_close(ours, reference.filtered_lrelu(x, UP, fd, spec=SAME_RATE))


def test_a_filter_changed_in_place_is_noticed() -> None:
    x, f = normal(1, 1, 12, 12, requires_grad=False), torch.ones(12) / 12
    grid = (torch.ones(4, 4) / 16).requires_grad_(False)
    for _ in range(2):
        assert_close(resample.upfirdn2d(x, f, up=2), reference.upfirdn2d(x, f, up=2))
        assert_close(resample.upfirdn2d(x, grid, up=2), reference.upfirdn2d(x, grid, up=2))
        f.copy_(UP)
        grid.copy_(torch.arange(16.0).reshape(4, 4))


def test_filters_work_inside_and_after_inference_mode() -> None:
    f = UP.clone()
    with torch.inference_mode():
        filtered_lrelu.filtered_lrelu(torch.randn(1, 2, 8, 8), f, f, spec=LreluSpec(2, 2, 9))
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    filtered_lrelu.filtered_lrelu(x, f, f, spec=LreluSpec(2, 2, 9)).square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


UPFIRDN_FILTERS = {
    "none": None,
    "1-D": SKEW,
    "long": UP,
    "outer product": filters.setup_filter([1, 3, 3, 1]),
    "full 2-D": torch.linspace(-1, 2, 12).square().reshape(4, 3),
}


@pytest.mark.parametrize("f", UPFIRDN_FILTERS)
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 2), ([2, 1], [1, 3])])
def test_upfirdn2d_equals_plain_form(f: str, up: Any, down: Any) -> None:
    taps = UPFIRDN_FILTERS[f]
    for padding, flip in itertools.product((6, [7, -1, -2, 9]), (False, True)):
        args: dict[str, Any] = {"up": up, "down": down, "padding": padding, "flip_filter": flip, "gain": 1.7}
        assert_equal_to_second_order(
            lambda x, args=args: resample.upfirdn2d(x, taps, **args),
            lambda x, args=args: reference.upfirdn2d(x, taps, **args),
            [normal(2, 2, 9, 7)],
        )


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("gain_shape", [None, (), (4,), (2, 4)])
def test_modulated_conv_sg3_equals_plain_form(demodulate: bool, gain_shape: tuple[int, ...] | None) -> None:
    gain = None if gain_shape is None else torch.rand(gain_shape, dtype=F64) + 0.5
    args: dict[str, Any] = {"demodulate": demodulate, "padding": 2, "input_gain": gain}
    assert_equal_to_second_order(
        lambda *a: modulated_conv.modulated_conv_sg3(*a, **args),
        lambda *a: reference.modulated_conv_sg3(*a, **args),
        [normal(2, 4, 5, 6), normal(3, 4, 3, 3), normal(2, 4)],
    )


@pytest.mark.parametrize("flip_weight", [True, False])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_modulated_conv_equals_plain_form(kernel: int, up: int, down: int, flip_weight: bool) -> None:
    spec = ConvSpec(up, down, kernel // 2, flip_weight=flip_weight)
    args: dict[str, Any] = {"spec": spec, "resample_filter": filters.setup_filter([1, 3, 3, 1])}
    size = 6 * up // down
    assert_equal_to_second_order(
        lambda *a: modulated_conv.modulated_conv(*a[:3], noise=a[3], **args),
        lambda *a: reference.modulated_conv(*a[:3], noise=a[3], **args),
        [normal(2, 4, 6, 6), normal(3, 4, kernel, kernel), normal(2, 4), normal(2, 1, size, size)],
    )


@pytest.mark.parametrize("demodulate", [True, False])
def test_gain_and_bias_of_modulated_conv_equal_the_plain_form(demodulate: bool) -> None:
    spec = ConvSpec(padding=1, demodulate=demodulate, gain=2)
    tensors = [normal(2, 4, 6, 6), normal(3, 4, 3, 3), normal(2, 4), normal(3), normal(6, 6)]

    def ours(*a: Tensor) -> Tensor:
        return modulated_conv.modulated_conv(*a[:3], spec, bias=a[3], noise=a[4])

    def plain(*a: Tensor) -> Tensor:
        return reference.modulated_conv(*a[:3], spec, bias=a[3], noise=a[4])

    assert_equal_to_second_order(ours, plain, tensors)
    kept = [tensor.clone() for tensor in tensors]
    with torch.no_grad():  # works in place, on nothing of the caller's
        torch.testing.assert_close(ours(*tensors), plain(*tensors))
    assert all(torch.equal(one, other) for one, other in zip(tensors, kept, strict=True))


def test_a_product_in_half_precision_leaves_maps_in_float32() -> None:
    x, weight, s = torch.randn(1, 8, 9, 9), torch.randn(6, 8, 3, 3), torch.rand(1, 8) + 0.5
    plain = reference.modulated_conv_sg3(x, weight, s, padding=2)
    ours = modulated_conv.modulated_conv_sg3(x, weight, s, padding=2, dtype=torch.bfloat16)
    assert ours.dtype == torch.float32
    assert 1e-4 < (ours - plain).norm() / plain.norm() < 1e-2


def test_wide_layers_give_the_same_in_either_memory_layout() -> None:
    x, weight, s = torch.randn(1, 300, 4, 4), torch.randn(300, 300, 3, 3), torch.randn(1, 300)
    for layout in (torch.contiguous_format, torch.channels_last):
        ours = modulated_conv.modulated_conv_sg3(x.contiguous(memory_format=layout), weight, s, padding=2)
        plain = reference.modulated_conv_sg3(x, weight, s, padding=2)
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 0.34, 1.3, 4.7, 32.0])
def test_gaussian_blur_equals_plain_form(sigma: float) -> None:
    assert_equal_to_second_order(
        lambda x: blur.gaussian_blur(x * 1, sigma),
        lambda x: reference.gaussian_blur(x * 1, sigma),
        [normal(2, 3, 16, 12)],
    )


@pytest.mark.parametrize("policy", ["color,translation,cutout", "cutout,translation", "color"])
@pytest.mark.parametrize("shape", [(3, 3, 16, 16), (2, 1, 7, 13), (2, 3, 2, 1)])
def test_diff_augment_equals_plain_form(policy: str, shape: tuple[int, int, int, int]) -> None:
    for seed in range(3):
        rng = torch.Generator().manual_seed(seed)
        draws = diff_augment.draw_augmentation(shape, policy, generator=rng, device="cpu")
        assert_equal_to_second_order(
            lambda x, draws=draws: diff_augment.diff_augment(x, policy, draws=draws),
            lambda x, draws=draws: reference.diff_augment(x, policy, draws),
            [normal(*shape)],
        )
