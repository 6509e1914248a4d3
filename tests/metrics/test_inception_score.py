"""The Inception score equals the reference implementations."""

import pytest
import torch
from metrics_golden import CASES, TENSORS

from sgxl_t.metrics.distances.inception_score import inception_score


@pytest.mark.golden
@pytest.mark.parametrize("splits", [1, 7, 10])
def test_golden_inception_score(splits):
    expected, tolerance = (CASES[f"is_{splits}_splits"][key] for key in ("expected", "tolerance"))
    ours = inception_score(TENSORS["logits"], splits=splits)
    assert ours == pytest.approx((expected["mean"], expected["std"]), rel=tolerance["rel"], abs=1e-14)


def test_torch_fidelity_agrees():
    oracle = pytest.importorskip("torch_fidelity.metric_isc")
    theirs = oracle.isc_features_to_metric(torch.from_numpy(TENSORS["logits"]), splits=9, shuffle=False)
    expected = [theirs[f"inception_score_{name}"] for name in ("mean", "std")]
    assert inception_score(TENSORS["logits"], splits=9) == pytest.approx(expected, rel=1e-9)


def test_constant_logits_score_one():
    assert inception_score(torch.full((50, 7), 3.0)) == pytest.approx((1, 0), abs=1e-12)


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_certain_and_balanced_classes_score_their_number(scale):
    """Probabilities that underflow to zero leave the score finite."""
    logits = scale * torch.eye(8).repeat(20, 1)
    assert inception_score(logits, splits=4) == pytest.approx((8, 0), rel=1e-12, abs=1e-9)


def test_half_precision_logits_are_taken():
    logits = torch.from_numpy(TENSORS["logits"]).half()
    assert inception_score(logits) == inception_score(logits.double())


@pytest.mark.parametrize(
    ("logits", "splits", "message"),
    [
        (torch.zeros(5), 1, r"\[N, classes\]"),
        (torch.zeros(1, 4), 1, "1 splits of 1 pictures"),
        (torch.zeros(5, 4), 10, "10 splits of 5 pictures"),
        (torch.zeros(5, 4), 0, "0 splits"),
        (torch.tensor([[0.0, torch.inf], [1.0, 2.0]]), 1, "1 of 2 rows"),
    ],
)
def test_unusable_logits_are_named(logits, splits, message):
    with pytest.raises(ValueError, match=message):
        inception_score(logits, splits=splits)
