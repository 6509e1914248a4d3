"""Precision, recall, density and coverage count what the reference implementations count."""

import pytest
import torch
from metrics_golden import CASES, inputs

from sgxl_t.metrics import precision_recall
from sgxl_t.metrics.distances.prdc import PRDC, prdc

NAMES = pytest.mark.parametrize("name", ["pr_k3", "pr_k5"])


def brute_force(real, fake, k):
    """By the definition, from whole matrices of exact distances."""
    real, fake = real.double(), fake.double()

    def distances(a, b):
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")

    real_radii, fake_radii = (distances(x, x).kthvalue(k + 1, dim=1).values for x in (real, fake))
    between = distances(real, fake)
    inside = between <= real_radii[:, None]
    precision, recall, coverage = (
        float(hits.double().mean()) for hits in (inside.any(0), (between <= fake_radii).any(1), inside.any(1))
    )
    return PRDC(precision, recall, float(inside.sum(0).double().mean() / k), coverage)


@pytest.mark.golden
@NAMES
def test_golden_precision_recall(name):
    expected = CASES[name]["expected"]
    ours = precision_recall(*inputs(name), k=int(name.removeprefix("pr_k")))
    assert ours == pytest.approx((expected["precision"], expected["recall"]), abs=1e-12)


@pytest.mark.golden
@NAMES
@pytest.mark.parametrize("chunk", [2048, 17])
def test_golden_density_coverage(name, chunk):
    ours = prdc(*inputs(name), k=int(name.removeprefix("pr_k")), chunk=chunk)
    assert vars(ours) == pytest.approx(CASES[name]["expected"], abs=1e-12)


@NAMES
def test_torch_fidelity_agrees(name):
    oracle = pytest.importorskip("torch_fidelity.metric_prc")
    real, fake = (torch.from_numpy(array) for array in inputs(name))
    k = int(name.removeprefix("pr_k"))
    theirs = oracle.prc_features_to_metric(
        fake, real, prc_neighborhood=k, prc_batch_size=100, save_cpu_ram=True, verbose=False
    )
    ours = precision_recall(real, fake, k=k)
    assert ours == pytest.approx((theirs["precision"], theirs["recall"]), rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_blocks_count_what_whole_matrices_count(k, offset):
    generator = torch.Generator().manual_seed(k)
    real = torch.randn(90, 5, generator=generator) + offset
    fake = 0.8 * torch.randn(70, 5, generator=generator) + offset
    expected = brute_force(real, fake, k)
    for chunk in (7, 64, 2048):
        assert prdc(real, fake, k, chunk) == expected


def test_copies_are_fully_covered_and_far_points_not_at_all():
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    copies = prdc(points, points[torch.randperm(20)])
    assert copies == PRDC(precision=1.0, recall=1.0, density=pytest.approx(4 / 3), coverage=1.0)
    assert prdc(points, points + 100) == PRDC(precision=0.0, recall=0.0, density=0.0, coverage=0.0)


def test_points_that_stand_in_the_set_many_times_have_radius_zero():
    generator = torch.Generator().manual_seed(0)
    place = 50 * torch.randn(1, 64, generator=generator)
    real, near = place.repeat(6, 1), place + 1e-3
    fake = torch.cat([place, near, near + 1, near + 2])
    assert prdc(real, fake, chunk=4) == brute_force(real, fake, 3)
    assert prdc(real, fake).precision == 0.25


def test_sums_of_all_rotations_agree():
    generator = torch.Generator().manual_seed(3)
    real, fake = (torch.randn(80, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64)).Q
    assert prdc(real @ rotation + 5, fake @ rotation + 5) == prdc(real, fake)


@pytest.mark.parametrize(("count", "k"), [(3, 3), (10, 0)])
def test_too_few_points_are_named(count, k):
    with pytest.raises(ValueError, match="k="):
        precision_recall(torch.zeros(count, 2), torch.zeros(10, 2), k=k)


@pytest.mark.parametrize(
    ("fake", "message"),
    [(torch.zeros(9, 3), "one extractor"), (torch.full((9, 2), torch.nan), "9 of 9 rows")],
)
def test_unusable_features_are_named(fake, message):
    with pytest.raises(ValueError, match=message):
        prdc(torch.zeros(9, 2), fake)
