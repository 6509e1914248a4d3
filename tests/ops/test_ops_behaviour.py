"""What the operations promise beyond numbers: shapes, ranges, randomness, and mistakes named."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sgxl_t.ops.bias_act import bias_act
from sgxl_t.ops.conv.modulated_conv import ConvSpec, modulated_conv, modulated_conv_sg3
from sgxl_t.ops.diff_augment import diff_augment, draw_augmentation
from sgxl_t.ops.filtered_lrelu.dispatch import filtered_lrelu
from sgxl_t.ops.filtered_lrelu.plan import LreluSpec
from sgxl_t.ops.images import from_uint8, to_uint8
from sgxl_t.ops.resample.blur import blur_sigma, gaussian_blur
from sgxl_t.ops.resample.filters import lowpass_filter, setup_filter
from sgxl_t.ops.resample.resample import downsample2d, filter2d, upfirdn2d, upsample2d


def test_lowpass_filter_equals_scipy() -> None:
    signal = pytest.importorskip("scipy.signal")
    for numtaps, cutoff, width, fs in ((12, 2, 12, 32), (24, 6.73, 4.3, 64), (7, 3, 3, 16), (64, 3, 8, 16)):
        ours = lowpass_filter(numtaps, cutoff, width, fs)
        theirs = torch.from_numpy(signal.firwin(numtaps, cutoff, width=width, fs=fs)).float()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_lowpass_filter_of_one_tap_is_no_filter() -> None:
    assert lowpass_filter(1, 2.0, 1.0, 16) is None


@pytest.mark.parametrize("f", [[1, 3, 3, 1], [1, 2, 1], [1.0] * 9])
def test_resampling_keeps_sizes_and_constants(f: list[float]) -> None:
    x, taps = torch.ones(1, 2, 24, 24), setup_filter(f)
    assert filter2d(x, taps).shape == (1, 2, 24, 24)
    assert downsample2d(x, taps).shape == (1, 2, 12, 12)
    up = upsample2d(x, setup_filter([1, 3, 3, 1]))
    assert up.shape == (1, 2, 48, 48)
    torch.testing.assert_close(up[:, :, 4:-4, 4:-4], torch.ones(1, 2, 40, 40))
    torch.testing.assert_close(filter2d(x, taps)[:, :, 8:-8, 8:-8], torch.ones(1, 2, 8, 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_filtered_lrelu_keeps_dtype_and_memory_layout(
    dtype: torch.dtype, layout: torch.memory_format
) -> None:
    f = lowpass_filter(12, 5.66, 4.7, 32)
    x = torch.randn(2, 3, 20, 20).to(dtype).contiguous(memory_format=layout)
    y = filtered_lrelu(x, f, f, torch.zeros(3), LreluSpec(2, 2, [9, 8, 9, 8]))
    assert y.shape == (2, 3, 18, 18)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=layout)


def test_operations_run_on_the_meta_device() -> None:
    f = lowpass_filter(12, 5.66, 4.7, 32)
    x = torch.empty(2, 3, 20, 20, device="meta")
    assert filtered_lrelu(x, f, f, spec=LreluSpec(2, 2, [9, 8, 9, 8])).shape == (2, 3, 18, 18)
    assert upsample2d(x, setup_filter([1, 3, 3, 1])).shape == (2, 3, 40, 40)


def test_autocast_leaves_filters_and_demodulation_exact() -> None:
    x = torch.randn(2, 8, 12, 12)
    weight, s = torch.randn(4, 8, 3, 3), torch.randn(2, 8)
    plain = gaussian_blur(x, 0.7), upsample2d(x, setup_filter([1, 3, 3, 1])), modulated_conv(x, weight, s)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = gaussian_blur(x, 0.7), upsample2d(x, setup_filter([1, 3, 3, 1])), modulated_conv(x, weight, s)
    assert torch.equal(low[0], plain[0])
    assert torch.equal(low[1], plain[1])
    assert (low[2].float() - plain[2]).norm() < 0.01 * plain[2].norm()


def test_empty_batches_stay_empty() -> None:
    f = lowpass_filter(12, 5.66, 4.7, 32)
    assert filtered_lrelu(torch.empty(0, 3, 20, 20), f, f, spec=LreluSpec(2, 2, 8)).shape[0] == 0


def test_blur_fades_linearly_to_nothing() -> None:
    assert blur_sigma(0, 2.0, 300) == 2.0
    assert blur_sigma(150_000, 2.0, 300) == 1.0
    assert blur_sigma(300_000, 2.0, 300) == 0.0
    assert blur_sigma(10**9, 2.0, 300) == 0.0
    assert blur_sigma(0, 2.0, 0) == 0.0


def test_blur_keeps_the_sum_away_from_the_border_and_halves_at_sigma() -> None:
    x = torch.zeros(1, 1, 33, 33)
    x[..., 16, 16] = 1
    y = gaussian_blur(x, 3.0)
    assert y.sum().item() == pytest.approx(1, abs=1e-5)
    assert (y[0, 0, 16, 19] / y[0, 0, 16, 16]).item() == pytest.approx(0.5, abs=1e-5)


def test_diff_augment_is_a_function_of_the_generator() -> None:
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    a, b, c = (diff_augment(x, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_diff_augment_draws_cover_their_ranges() -> None:
    rng = torch.Generator().manual_seed(0)
    draws = draw_augmentation((4000, 3, 16, 15), "color,translation,cutout", generator=rng, device="cpu")
    names = [
        "brightness",
        "saturation",
        "contrast",
        "translation_h",
        "translation_w",
        "cutout_h",
        "cutout_w",
    ]
    assert list(draws) == names
    ranges = {name: (int(draws[name].min()), int(draws[name].max())) for name in list(draws)[3:]}
    # 16 pixels: shift 2, square of 3; 15 pixels: shift 2, square of 3.
    expected = {
        "translation_h": (-2, 2),
        "translation_w": (-2, 2),
        "cutout_h": (0, 15),
        "cutout_w": (0, 14),
    }
    assert ranges == expected
    assert all(draws[name].min() >= 0 and draws[name].max() < 1 for name in list(draws)[:3])


def test_empty_policy_changes_nothing() -> None:
    x = torch.randn(2, 3, 8, 8)
    assert diff_augment(x, "") is x


def test_pixels_go_to_floats_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(pixels)), pixels)
    assert to_uint8(torch.tensor([-9.0, -1, 0, 1, 9])).tolist() == [0, 0, 128, 255, 255]
    assert from_uint8(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]


X = torch.zeros(2, 3, 8, 8)
MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "activation": (lambda: bias_act(X, act="gelu"), "gelu"),
    "bias": (lambda: bias_act(X, torch.zeros(4)), "bias"),
    "lrelu bias": (lambda: filtered_lrelu(X, b=torch.zeros(4)), "bias"),
    "lrelu gain": (lambda: LreluSpec(gain=0.0), "gain"),
    "clamp": (lambda: bias_act(X, clamp=-1.0), "clamp"),
    "factor": (lambda: upfirdn2d(X, None, up=0), "up"),
    "padding": (lambda: upfirdn2d(X, None, padding=[1, 2, 3]), "padding"),
    "filter too large": (lambda: upfirdn2d(X, torch.ones(9)), "pad more"),
    "three axes": (lambda: upfirdn2d(X[0], None), "give"),
    "filter axes": (lambda: setup_filter(torch.ones(2, 2, 2)), "filter"),
    "filter as string of taps": (lambda: upfirdn2d(X, torch.ones(2, 2, 2)), "filter"),
    "separable 2-D": (lambda: setup_filter(torch.ones(2, 2), separable=True), "1-D"),
    "cutoff": (lambda: lowpass_filter(12, 20, 4, 32), "cutoff"),
    "odd radial": (lambda: lowpass_filter(11, 2, 4, 32, radial=True), "odd"),
    "style": (lambda: modulated_conv_sg3(X, torch.zeros(4, 3, 3, 3), torch.zeros(2, 4)), "style"),
    "weight": (lambda: modulated_conv(X, torch.zeros(4, 2, 3, 3), torch.zeros(2, 3)), "weight"),
    "up and down": (lambda: ConvSpec(up=2, down=2), "up=2"),
    "sigma": (lambda: gaussian_blur(X, -1.0), "sigma"),
    "sigma nan": (lambda: gaussian_blur(X, math.nan), "sigma"),
    "schedule": (lambda: blur_sigma(0, -1.0, 300), "init_sigma"),
    "augmentation step": (lambda: diff_augment(X, "colour", generator=torch.Generator()), "colour"),
    "no randomness": (lambda: diff_augment(X), "generator"),
    "missing draw": (lambda: diff_augment(X, "cutout", draws={}), "cutout_h"),
    "pixel type": (lambda: from_uint8(X), "uint8"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_in_one_sentence(mistake: str) -> None:
    call, word = MISTAKES[mistake]
    with pytest.raises(ValueError, match=word) as caught:
        call()
    assert "\n" not in str(caught.value)
