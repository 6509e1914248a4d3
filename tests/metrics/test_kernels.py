"""KID and CMMD equal the reference implementations."""

import pytest
import torch
from metrics_golden import CASES, TENSORS, inputs

from sgxl_t.metrics.distances import kernels
from sgxl_t.metrics.distances.kernels import cmmd, kid, kid_full, kid_of_subsets

SMALL_BLOCKS = pytest.mark.parametrize("block", [2048, 37])


def approx(name):
    case = CASES[name]
    return pytest.approx(case["expected"], rel=case["tolerance"]["rel"])


@pytest.mark.golden
@SMALL_BLOCKS
@pytest.mark.parametrize(("name", "rows"), [("kid_full_equal", 400), ("kid_full_unequal", 500)])
def test_golden_kid_full(name, rows, block, monkeypatch):
    monkeypatch.setattr(kernels, "_BLOCK", block)
    assert kid_full(TENSORS["feat_real"][:rows], TENSORS["feat_fake"]) == approx(name)


@pytest.mark.golden
def test_golden_kid_subsets():
    real, fake, ours, theirs = inputs("kid_subsets")
    mean, std = kid_of_subsets(real, fake, zip(ours, theirs, strict=True))
    expected, tolerance = (CASES["kid_subsets"][key] for key in ("expected", "tolerance"))
    assert (mean, std) == pytest.approx((expected["mean"], expected["std"]), rel=tolerance["rel"])


@pytest.mark.golden
@SMALL_BLOCKS
def test_golden_cmmd_biased(block, monkeypatch):
    monkeypatch.setattr(kernels, "_BLOCK", block)
    assert cmmd(*inputs("cmmd_biased")) == approx("cmmd_biased")


def test_torch_fidelity_agrees_for_the_same_seed():
    oracle = pytest.importorskip("torch_fidelity.metric_kid")
    real, fake = (torch.from_numpy(TENSORS[name]).double() for name in ("feat_real", "feat_fake"))
    theirs = oracle.kid_features_to_metric(
        fake, real, kid_subsets=20, kid_subset_size=100, rng_seed=7, verbose=False
    )
    expected = [theirs[f"kernel_inception_distance_{name}"] for name in ("mean", "std")]
    assert kid(real, fake, subsets=20, subset_size=100, seed=7) == pytest.approx(expected, rel=1e-9)


def test_torchmetrics_agrees():
    oracle = pytest.importorskip("torchmetrics.image.kid")
    real, fake = (torch.from_numpy(TENSORS[name])[:400].double() for name in ("feat_real", "feat_fake"))
    assert kid_full(real, fake) == pytest.approx(float(oracle.poly_mmd(real, fake)), rel=1e-9)


def test_kid_of_one_distribution_is_zero_on_average():
    generator = torch.Generator().manual_seed(0)
    sets = torch.randn(40, 2, 100, 8, generator=generator)
    values = torch.tensor([kid_full(a, b) for a, b in sets])
    assert abs(float(values.mean())) < 3 * float(values.std()) / 40**0.5
    assert float(values.min()) < 0 < float(values.max())
    assert kid_full(sets[0, 0], sets[0, 1] + 1) > 10 * float(values.std())


def test_kid_follows_its_seed_and_shrinks_its_subsets():
    real, fake = (torch.from_numpy(TENSORS[name]) for name in ("feat_real", "feat_fake"))
    assert kid(real, fake, subsets=5, subset_size=50, seed=1) == kid(
        real, fake, subsets=5, subset_size=50, seed=1
    )
    assert kid(real, fake, subsets=5, subset_size=50, seed=1) != kid(
        real, fake, subsets=5, subset_size=50, seed=2
    )
    mean, std = kid(real[:400], fake, subsets=3)
    assert (mean, std) == pytest.approx((CASES["kid_full_equal"]["expected"], 0), rel=1e-9, abs=1e-15)


def test_cmmd_is_zero_for_equal_sets_and_keeps_the_digits_of_near_ones():
    unit = torch.nn.functional.normalize(
        torch.randn(50, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    assert cmmd(unit, unit) == pytest.approx(0, abs=1e-12)
    turned = unit.clone()
    turned[0] = turned[0].roll(1)
    # Nearly linear kernel: |mean difference|^2 / sigma^2.
    expected = 1000 * float((unit - turned).mean(0).square().sum()) / 100
    assert cmmd(unit, turned) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("distance", [kid, kid_full, cmmd])
@pytest.mark.parametrize(
    ("fake", "message"),
    [
        (torch.ones(4), r"\[N, D\]"),
        (torch.ones(4, 2), "one extractor"),
        (torch.ones(1, 3), "1 pictures"),
        (torch.tensor([[0, 1, 0], [0, torch.nan, 1], [0, torch.inf, 0]]), "2 of 3 rows of fake"),
    ],
)
def test_unusable_features_are_named(distance, fake, message):
    with pytest.raises(ValueError, match=message):
        distance(torch.eye(3), fake)


def test_empty_draws_and_long_embeddings_are_named():
    with pytest.raises(ValueError, match="0 subsets"):
        kid(torch.eye(3), torch.eye(3), subsets=0)
    with pytest.raises(ValueError, match="length 2 to 2"):
        cmmd(torch.eye(3), 2 * torch.eye(3))
