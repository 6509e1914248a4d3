"""The Frechet distance equals the reference implementations and holds up where they do not."""

import warnings

import numpy as np
import pytest
import torch
from metrics_golden import CASES, TENSORS, inputs

from sgxl_t.metrics import frechet_distance
from sgxl_t.metrics.distances.feature_statistics import FeatureStatistics
from sgxl_t.metrics.distances.frechet import covariance_root, frechet_from_statistics


def statistics(x):
    result = FeatureStatistics(x.shape[1])
    result.update(x)
    return result


def from_statistics(x, y, *, ddof=1):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return frechet_from_statistics(statistics(x), statistics(y), ddof=ddof)


ROUTES = pytest.mark.parametrize("distance", [frechet_distance, from_statistics])


@pytest.mark.golden
@ROUTES
@pytest.mark.parametrize("name", ["fd_unbiased", "fd_biased", "fd_rank_deficient"])
def test_golden_frechet(name, distance):
    ours = distance(*inputs(name), ddof=0 if name == "fd_biased" else 1)
    assert ours == pytest.approx(CASES[name]["expected"], rel=CASES[name]["tolerance"]["rel"])
    assert ours == pytest.approx(CASES[name]["expected"], rel=1e-10)


@pytest.mark.golden
@ROUTES
def test_golden_fd_identical(distance):
    x = TENSORS["feat_real"]
    assert distance(x, x) == pytest.approx(0.0, abs=CASES["fd_identical"]["tolerance"]["abs"])


@pytest.mark.golden
@ROUTES
def test_golden_sfid_flatten(distance):
    real, fake = (torch.from_numpy(array)[:, :7] for array in inputs("sfid_flatten"))
    expected = pytest.approx(CASES["sfid_flatten"]["expected"], rel=CASES["sfid_flatten"]["tolerance"]["rel"])
    assert distance(real.flatten(1), fake.flatten(1)) == expected
    last = [rows.permute(0, 2, 3, 1).flatten(1) for rows in (real, fake)]
    assert distance(*last) == expected


@pytest.mark.golden
@ROUTES
def test_golden_fd_diagonal(distance):
    """Samples whose mean and covariance are exactly those of the two diagonal normal distributions."""
    var1, var2, shift = (np.asarray(array, dtype=np.float64) for array in inputs("fd_diagonal"))

    def samples(variance, mean):
        count = 2 * len(variance)
        axes = np.diag(np.sqrt(variance * (count - 1) / 2))
        return np.concatenate([axes, -axes]) + mean

    ours = distance(samples(var1, shift), samples(var2, np.zeros_like(shift)))
    assert ours == pytest.approx(CASES["fd_diagonal"]["expected"], rel=1e-12)


@pytest.fixture
def features():
    """Two sets like those of a network: correlated, rectified, with a feature that is always zero."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(24, 24, generator=generator, dtype=torch.float64)
    x, y = (torch.randn(n, 24, generator=generator, dtype=torch.float64) @ mix for n in (400, 300))
    x, y = x.clamp(min=0), (1.2 * y + 0.5).clamp(min=0)
    x[:, 3] = y[:, 3] = 0
    return x, y


@ROUTES
def test_distance_is_symmetric_and_zero_for_a_set_itself(features, distance):
    x, y = features
    assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-7)
    assert distance(x, x) == pytest.approx(0, abs=1e-6)
    assert distance(x, x.flip(0)) == pytest.approx(0, abs=1e-6)


@ROUTES
def test_rotation_and_translation_change_nothing_and_scale_is_squared(features, distance):
    x, y = features
    rotation = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(1)).double()).Q
    expected = distance(x, y)
    assert distance(x @ rotation, y @ rotation) == pytest.approx(expected, rel=1e-7)
    assert distance(x + 100, y + 100) == pytest.approx(expected, rel=1e-7)
    assert distance(3 * x, 3 * y) == pytest.approx(9 * expected, rel=1e-7)
    assert distance(x, x + 2) == pytest.approx(4 * 24, rel=1e-7)


@ROUTES
def test_fewer_samples_than_features_is_exact_and_symmetric(distance):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 40, generator=generator)
    y = torch.randn(7, 40, generator=generator) + 1
    assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-12)
    assert distance(x, x + 3) == pytest.approx(40 * 9, rel=1e-6)
    assert from_statistics(x, y) == pytest.approx(frechet_distance(x, y), rel=1e-10)


@ROUTES
def test_large_common_offset_does_not_matter(distance):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(100, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(90, 6, generator=generator, dtype=torch.float64)
    assert distance(x + 1e4, y + 1e4) == pytest.approx(distance(x, y), rel=1e-9)


@pytest.mark.parametrize("count", [20, 400])
@pytest.mark.parametrize("ddof", [0, 1])
def test_root_of_the_covariance_is_one_and_may_be_kept(features, count, ddof):
    real, fake = statistics(features[0][:count]), statistics(features[1])
    root = covariance_root(real, ddof)
    assert root.shape == (24, min(24, count - 1))
    torch.testing.assert_close(root @ root.T, real.covariance(ddof), rtol=1e-12, atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = frechet_from_statistics(real, fake, ddof=ddof, real_root=root)
        assert kept == frechet_from_statistics(real, fake, ddof=ddof)


def test_torch_fidelity_agrees(features):
    oracle = pytest.importorskip("torch_fidelity.metric_fid")
    stats = [oracle.fid_features_to_statistics(x[:, torch.arange(24) != 3]) for x in features]
    theirs = oracle.fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert from_statistics(*features) == pytest.approx(theirs, rel=1e-9)
    assert frechet_distance(*features) == pytest.approx(theirs, rel=1e-9)


def test_torchmetrics_agrees(features):
    oracle = pytest.importorskip("torchmetrics.image.fid")
    x, y = (rows[:, torch.arange(24) != 3] for rows in features)
    theirs = oracle._compute_fid(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T))
    assert from_statistics(*features) == pytest.approx(float(theirs), rel=1e-9)


def test_fewer_rows_than_features_are_warned_of(features):
    x, y = features
    with pytest.warns(UserWarning, match="20 real and 300 generated pictures for 24 features"):
        frechet_from_statistics(statistics(x[:20]), statistics(y))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_from_statistics(statistics(x), statistics(y))


UNUSABLE = [
    (torch.zeros(4, 3), torch.zeros(4, 2), "one extractor"),
    (torch.zeros(1, 2), torch.zeros(4, 2), "at least 2"),
    (torch.full((4, 2), float("nan")), torch.zeros(4, 2), "NaN or inf|not finite"),
]


@ROUTES
@pytest.mark.parametrize(("x", "y", "message"), UNUSABLE)
def test_unusable_features_are_named(x, y, message, distance):
    for pair in ((x, y), (y, x)):
        with pytest.raises(ValueError, match=message):
            distance(*pair)


def test_other_shapes_and_roots_are_named():
    with pytest.raises(ValueError, match="shape"):
        frechet_distance(torch.zeros(4), torch.zeros(4, 2))
    x = statistics(torch.randn(9, 2, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match="covariance_root"):
        frechet_from_statistics(x, x, real_root=torch.zeros(3, 3))
