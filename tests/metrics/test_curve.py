"""The curve over psi shows what psi does and nothing else."""

import csv
from xml.etree import ElementTree

import pytest
import torch

from sgxl_t.metrics.curve import (
    PSIS,
    CurvePoint,
    RealReference,
    fid_clip_curve,
    pareto_front,
    points_of,
    write_curve,
)
from sgxl_t.metrics.distances.feature_statistics import FeatureStatistics
from sgxl_t.metrics.distances.frechet import frechet_distance

PROMPTS = [f"prompt {index}" for index in range(90)]


class Toy:
    """Pictures of 2 px whose spread is psi and whose third channel tells how well they fit the prompt."""

    resolution, asked = 2, []

    def __init__(self, psi):
        self.psi = psi

    def check_count(self, count):
        pass

    def images(self, indices):
        Toy.asked.append((self.psi, tuple(indices)))
        rng = [torch.Generator().manual_seed(index) for index in indices]
        images = torch.stack([torch.randn(3, 2, 2, generator=one) for one in rng]) * 40 * self.psi + 128
        images[:, 2] = 255 * (1 - self.psi / 2)
        return images.clamp(0, 255).to(torch.uint8)

    def describe(self):
        return {"psi": self.psi}


def features(images):
    return images[:, :2].double().mean(dim=(2, 3))


def cosines(images, prompts):
    assert all(prompt in PROMPTS for prompt in prompts)
    return images[:, 2, 0, 0] / 255


def curve(**settings):
    real = FeatureStatistics(2)
    real.update(features(Toy(1.0).images(range(1000, 1400))))
    return fid_clip_curve(Toy, PROMPTS, RealReference(real, features), cosines, **settings)


def test_less_variety_costs_distance_and_buys_score():
    points = curve(count=90)
    assert [point.psi for point in points] == list(PSIS)
    distances, scores = [point.distance for point in points], [point.clip_score for point in points]
    assert distances[1:] == sorted(distances[1:])
    assert scores == sorted(scores)
    assert all(point.pareto for point in points[1:])
    assert points[0].pareto == (distances[0] < distances[1])


def test_every_psi_is_measured_on_the_same_samples():
    Toy.asked.clear()
    points = curve(count=20, psis=(1.0, 0.5), batch_size=8)
    by_psi = {psi: [part for one, part in Toy.asked if one == psi and part[0] < 1000] for psi in (1.0, 0.5)}
    assert by_psi[1.0] == by_psi[0.5] == [tuple(range(8)), tuple(range(8, 16)), tuple(range(16, 20))]
    real = features(Toy(1.0).images(range(1000, 1400)))
    expected = frechet_distance(real, features(Toy(0.5).images(range(20))))
    assert points[1].distance == pytest.approx(expected, rel=1e-9)


def test_batch_size_does_not_change_the_curve():
    first, *others = (curve(count=64, psis=(1.0, 0.4), batch_size=size) for size in (1, 7, 64))
    for other in others:
        for one, two in zip(first, other, strict=True):
            assert two.distance == pytest.approx(one.distance, rel=1e-12)
            assert two.clip_score == pytest.approx(one.clip_score, rel=1e-12)


def test_the_front_leaves_out_what_another_point_beats():
    assert pareto_front([(1, 0.2), (2, 0.3), (2, 0.25), (3, 0.3), (0.5, 0.1)]) == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert pareto_front([(1, 0.2), (1, 0.2)]) == [True, True]


def test_files_hold_every_digit_and_a_drawing(tmp_path):
    points = [CurvePoint(1.0, 10.123456789012, 0.25, True), CurvePoint(0.5, 12.0, 0.2, False)]
    write_curve(points, tmp_path / "curve.csv")
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    assert list(rows[0]) == ["psi", "fid30k_coco64", "clip_score", "pareto"]
    assert [float(row["fid30k_coco64"]) for row in rows] == [10.123456789012, 12.0]
    assert [row["pareto"] for row in rows] == ["1", "0"]
    drawing = ElementTree.parse(tmp_path / "curve.svg").getroot()
    assert len([node for node in drawing if node.tag.endswith("circle")]) == 2
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ValueError, match="csv"):
        write_curve(points, tmp_path / "curve.txt")


def test_records_give_a_point_per_psi():
    records = [
        {"metric": metric, "reduction": reduction, "psi": psi, "value": value}
        for psi, distance, score in ((1.0, 10.0, 0.2), (0.5, 12.0, 0.3), (0.2, 15.0, 0.25))
        for metric, reduction, value in (
            ("fid9", "frechet", distance),
            ("kid9", "kid", 1.0),
            ("sfid9", "frechet", 99.0),
            ("cs9", "clip_score", score),
        )
    ]
    points, name = points_of(records)
    assert name == "fid9"
    assert points == [
        CurvePoint(1.0, 10.0, 0.2, True),
        CurvePoint(0.5, 12.0, 0.3, True),
        CurvePoint(0.2, 15.0, 0.25, False),
    ]


def test_one_point_can_be_drawn(tmp_path):
    write_curve([CurvePoint(1.0, 10.0, 0.25, True)], tmp_path / "curve.csv")
    ElementTree.parse(tmp_path / "curve.svg")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 91}, "90 prompts and 91"),
        ({"count": 9, "psis": (1, 1)}, "once"),
        ({"count": 9, "psis": ()}, "once"),
    ],
)
def test_requests_that_make_no_curve_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        curve(**settings)
