"""Improved precision and recall count what the reference implementations count."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sgxl_t.metrics import precision_recall

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "metrics.json").read_text())
TENSORS = np.load(GOLDEN / "metrics.npz")


@pytest.mark.golden
@pytest.mark.parametrize("name", ["pr_k3", "pr_k5"])
def test_golden_precision_recall(name):
    expected = CASES[name]["expected"]
    ours = precision_recall(
        *(TENSORS[key] for key in CASES[name]["inputs"]), k=int(name.removeprefix("pr_k"))
    )
    assert ours == pytest.approx((expected["precision"], expected["recall"]), abs=1e-12)


def test_blocks_do_not_change_the_counts():
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(50, 4, generator=generator) for _ in range(2))
    assert precision_recall(real, fake, chunk=7) == precision_recall(real, fake)


def test_copies_are_fully_covered_and_far_points_not_at_all():
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    assert precision_recall(points, points) == (1.0, 1.0)
    assert precision_recall(points, points + 100) == (0.0, 0.0)


@pytest.mark.parametrize(("count", "k"), [(3, 3), (10, 0)])
def test_too_few_points_are_named(count, k):
    with pytest.raises(ValueError, match="k="):
        precision_recall(torch.zeros(count, 2), torch.zeros(10, 2), k=k)
