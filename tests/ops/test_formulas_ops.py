"""The blur's width and taps have the values that their formulas give."""

import math

import pytest
import torch

from sgxl_t.ops.resample.blur import blur_sigma, gaussian_blur


def test_blur_falls_linearly_to_nothing_and_refuses_negative_numbers():
    assert [blur_sigma(images, 10.0, 0.2) for images in (0, 50, 150, 200, 201)] == pytest.approx(
        [10.0, 7.5, 2.5, 0.0, 0.0]
    )
    assert blur_sigma(0, 0.0, 300) == blur_sigma(5, 3.0, 0) == 0.0
    for arguments in ((-1, 2.0, 300), (0, -2.0, 300), (0, 2.0, -300)):
        with pytest.raises(ValueError, match="none may be negative"):
            blur_sigma(*arguments)


@pytest.mark.parametrize(("sigma", "radius"), [(0.34, 1), (0.66, 1), (0.67, 2), (2.0, 6)])
def test_taps_are_halved_at_sigma_and_end_at_three_sigma(sigma, radius):
    x = torch.zeros(1, 1, 17, 17, dtype=torch.float64)
    x[..., 8, 8] = 1
    row = gaussian_blur(x, sigma)[0, 0, 8]
    assert int((row > 0).sum()) == 2 * radius + 1
    taps = [2 ** -((i / sigma) ** 2) for i in range(-radius, radius + 1)]
    expected = torch.tensor(taps, dtype=torch.float64) / sum(taps)
    ours = row[8 - radius : 9 + radius]
    torch.testing.assert_close(ours, expected * expected[radius], rtol=1e-12, atol=0)


@pytest.mark.parametrize("sigma", [-0.5, math.inf, math.nan])
def test_a_blur_of_no_size_is_refused(sigma):
    with pytest.raises(ValueError, match="finite number of pixels"):
        gaussian_blur(torch.zeros(1, 1, 4, 4), sigma)
    x = torch.rand(1, 1, 4, 4)
    assert gaussian_blur(x, 0.0) is gaussian_blur(x, 0.33) is x
