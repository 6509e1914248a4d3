"""PPL is the trimmed mean of squared speeds along W, in closed form where the generator is linear."""

import pytest
import torch
from metrics_golden import CASES, TENSORS
from torch import nn

from sgxl_t.metrics.distances.ppl import lpips_input, ppl, trimmed_mean
from sgxl_t.metrics.sampling_rng import sample_latents
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.generators.registry import build_generator


class Linear(nn.Module):
    """Pictures that are a linear map of w, and w a linear map of z, in float64."""

    def __init__(self, side=4):
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.z_dim, self.side = 6, side
        self.matrix = torch.randn(3 * side**2, self.z_dim, generator=rng, dtype=torch.float64)

    def mapping(self, z, c=None):
        scale = 1.0 if c is None else (1 + c.double())[:, None]
        return (scale * z.double())[:, None]

    def synthesis(self, ws, noise_mode, tokens=None):
        assert noise_mode == "const"
        return (ws[:, 0] @ self.matrix.T).view(-1, 3, self.side, self.side)


def squared(x, y):
    return (x - y).square().flatten(1).sum(dim=1)


@pytest.mark.golden
def test_golden_ppl_trim():
    case = CASES["ppl_trim"]
    ours = trimmed_mean(torch.from_numpy(TENSORS["ppl_dist"]))
    assert ours == pytest.approx(case["expected"], rel=case["tolerance"]["rel"])


def test_trimming_keeps_values_equal_to_the_bounds():
    values = torch.cat([torch.zeros(3), torch.ones(96), torch.tensor([5.0, 900.0])])
    # 101 values: ranks 1 and 99 are the bounds, so only the largest goes.
    assert trimmed_mean(values) == pytest.approx((96 + 5) / 100)
    assert trimmed_mean(torch.tensor([3.0])) == 3


@pytest.mark.parametrize("conditioned", [False, True])
def test_a_linear_generator_has_its_closed_form(conditioned):
    generator, count = Linear(), 30
    conditions = (lambda indices: torch.tensor(indices) % 2) if conditioned else None
    speeds = [sample_latents(9, range(count), 6, purpose).double() for purpose in ("z", "other end")]
    step = (speeds[1] - speeds[0]) * (1 + torch.arange(count)[:, None] % 2 * conditioned)
    expected = trimmed_mean((127.5 * step @ generator.matrix.T).square().sum(dim=1))
    for size in (1, 7, 64):
        ours = ppl(generator, squared, count, conditions=conditions, seed=9, batch_size=size)
        assert ours == pytest.approx(expected, rel=1e-9)


def test_batch_size_changes_rounding_only():
    """The step of 1e-4 in float32 pictures leaves about three digits to each distance, fewer to none."""
    generator = build_generator("sgt-tiny-16", ConditionSpec(kind="none"), seed=1).eval()
    values = [ppl(generator, squared, 30, batch_size=size) for size in (1, 7, 64)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-3)
    assert values[0] > 0


def test_large_pictures_are_box_averaged_and_others_kept():
    large = torch.rand(1, 3, 512, 512) * 2 - 1
    expected = (large.view(1, 3, 256, 2, 256, 2).mean(dim=(3, 5)) + 1) * 127.5
    torch.testing.assert_close(lpips_input(large), expected)
    small = torch.full((1, 1, 8, 8), 1.5)
    assert torch.equal(lpips_input(small), torch.full((1, 3, 8, 8), 2.5 * 127.5))
