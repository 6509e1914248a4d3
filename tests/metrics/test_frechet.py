"""The Frechet distance equals the reference implementations and holds up where they do not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sgxl_t.metrics import frechet_distance

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "metrics.json").read_text())
TENSORS = np.load(GOLDEN / "metrics.npz")


@pytest.mark.golden
@pytest.mark.parametrize("name", ["fd_unbiased", "fd_biased", "fd_rank_deficient"])
def test_golden_frechet(name):
    case = CASES[name]
    x, y = (TENSORS[key] for key in case["inputs"])
    ours = frechet_distance(x, y, ddof=0 if name == "fd_biased" else 1)
    assert ours == pytest.approx(case["expected"], rel=case["tolerance"]["rel"])


@pytest.mark.golden
def test_golden_fd_identical():
    x = TENSORS["feat_real"]
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=CASES["fd_identical"]["tolerance"]["abs"])


@pytest.mark.golden
def test_golden_sfid_flatten():
    real, fake = (torch.from_numpy(TENSORS[key])[:, :7] for key in CASES["sfid_flatten"]["inputs"])
    expected = pytest.approx(CASES["sfid_flatten"]["expected"], rel=CASES["sfid_flatten"]["tolerance"]["rel"])
    assert frechet_distance(real.flatten(1), fake.flatten(1)) == expected


@pytest.mark.golden
def test_golden_fd_diagonal():
    """Samples whose mean and covariance are exactly those of the two diagonal normal distributions."""
    var1, var2, shift = (np.asarray(TENSORS[key], dtype=np.float64) for key in CASES["fd_diagonal"]["inputs"])

    def samples(variance, mean):
        count = 2 * len(variance)
        axes = np.diag(np.sqrt(variance * (count - 1) / 2))
        return np.concatenate([axes, -axes]) + mean

    ours = frechet_distance(samples(var1, shift), samples(var2, np.zeros_like(shift)))
    assert ours == pytest.approx(CASES["fd_diagonal"]["expected"], rel=1e-12)


def test_fewer_samples_than_features_is_exact_and_symmetric():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 40, generator=generator)
    y = torch.randn(7, 40, generator=generator) + 1
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-12)
    assert frechet_distance(x, x + 3) == pytest.approx(40 * 9, rel=1e-6)


def test_large_common_offset_does_not_matter():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(100, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(90, 6, generator=generator, dtype=torch.float64)
    assert frechet_distance(x + 1e4, y + 1e4) == pytest.approx(frechet_distance(x, y), rel=1e-9)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(4), torch.zeros(4, 2), "shape"),
        (torch.zeros(4, 3), torch.zeros(4, 2), "one extractor"),
        (torch.zeros(1, 2), torch.zeros(4, 2), "at least 2"),
        (torch.full((4, 2), float("nan")), torch.zeros(4, 2), "finite"),
    ],
)
def test_unusable_features_are_named(x, y, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(x, y)
