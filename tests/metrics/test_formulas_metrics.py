"""Perceptual path length: step, scale and trimming have the values that the formula gives."""

import pytest
import torch
from torch import nn

from sgxl_t.metrics.distances import ppl as module
from sgxl_t.metrics.distances.ppl import lpips_input, ppl, trimmed_mean
from sgxl_t.metrics.sampling_rng import sample_latents
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.text.tokens import TextTokens


class Square(nn.Module):
    """Gray pictures of one colour, the first style's square."""

    z_dim = 3

    def mapping(self, z, c=None):
        self.labels = c
        return z.double()[:, None]

    def synthesis(self, ws, *, noise_mode, tokens=None):
        self.seen = noise_mode, tokens
        return ws[:, 0, :1].square()[:, :, None, None].expand(-1, 1, 2, 2)


def difference(x, y):
    """Of the first pixel of the first channel."""
    assert x.shape[1:] == (3, 2, 2)
    return (x - y)[:, 0, 0, 0].square()


def test_a_step_of_a_ten_thousandth_of_the_way_over_its_square():
    w0, w1 = (sample_latents(5, range(8), 3, purpose).double()[:, 0] for purpose in ("z", "other end"))
    step = 1e-4 * (w1 - w0)
    slope = 127.5 * ((w0 + step).square() - w0.square()) / 1e-4
    expected = trimmed_mean(slope.square())
    generator = Square()
    assert ppl(generator, difference, 8, seed=5) == pytest.approx(expected, rel=1e-6)
    assert generator.seen == ("const", None)
    assert ppl(generator, difference, 8) == ppl(generator, difference, 8, seed=0)

    def captions(indices):
        return Conditioning(c=torch.tensor(indices), tokens=TextTokens(torch.tensor(indices)))

    ppl(generator, difference, 2, conditions=captions, batch_size=2)
    assert generator.seen[1].values.tolist() == generator.labels.tolist() == [0, 1]
    assert (module.EPSILON, module.MAX_RESOLUTION) == (1e-4, 256)


@pytest.mark.parametrize(("side", "expected"), [(256, 256), (511, 511), (512, 256), (767, 383), (768, 256)])
def test_large_pictures_are_averaged_by_whole_factors(side, expected):
    assert lpips_input(torch.zeros(1, 3, side, side)).shape == (1, 3, expected, expected)
    assert lpips_input(torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1)).flatten().tolist() == [0, 127.5, 255]


def test_the_extreme_percents_are_left_out():
    values = torch.arange(201.0).square()
    assert trimmed_mean(values[torch.randperm(201)]) == pytest.approx(float(values[2:199].double().mean()))
    assert trimmed_mean(torch.arange(100.0).square()) == pytest.approx(
        float(torch.arange(100.0).square().mean())
    )
    assert trimmed_mean(torch.tensor([[1.0, 2.0], [3.0, 6.0]])) == 3.0


def test_fifty_thousand_samples_unless_told_otherwise(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        module, "per_sample", lambda compute, **options: asked.update(options) or torch.ones(4, 1)
    )
    assert ppl(Square(), difference) == 1.0
    assert asked == {"count": 50_000, "batch_size": 16, "name": "ppl2_wend"}
