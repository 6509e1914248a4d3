"""The packaged judges read real pictures right and report what is wrong with others."""

import pytest
import torch

from sgxl_t.metrics.judges import JUDGE_FILES, load_judge, read_source


@pytest.fixture(scope="module", params=sorted(JUDGE_FILES))
def judge(request):
    return load_judge(request.param)


def some(judge, split, count=150):
    return read_source(judge.reference, judge.resolution, split, count)


def test_real_pictures_are_read_right(judge):
    images, attributes, captions = some(judge, "test")
    scores = judge.accuracy(images, attributes)
    assert set(scores) == {"all", *judge.attributes}
    assert min(scores.values()) >= 0.99
    if judge.clip is not None:
        assert judge.retrieval_at_1(images, attributes, captions) >= 0.95


def test_pairs_kept_out_of_training_are_read_right():
    judge = load_judge("emoji-scenes:24x8")
    images, attributes, captions = some(judge, "held_out")
    assert judge.accuracy(images, attributes)["all"] >= 0.99
    assert judge.retrieval_at_1(images, attributes, captions) >= 0.95


def test_wrong_requests_are_noticed(judge):
    images, attributes, _ = some(judge, "test")
    wrong = attributes.clone()
    wrong[::2, 0] = (wrong[::2, 0] + 1) % next(iter(judge.attributes.values()))
    scores = judge.accuracy(images, wrong)
    assert scores["all"] == pytest.approx(0.5, abs=0.02)
    assert all(scores[name] >= 0.99 for name in list(judge.attributes)[1:])


def test_larger_pictures_are_reduced(judge):
    images = some(judge, "test", 20)[0]
    large = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(judge.features(large), judge.features(images), rtol=1e-3, atol=1e-3)


def test_report_sets_every_figure_beside_its_real_value():
    judge = load_judge("digits")
    images, attributes, _ = read_source("digits", 16, "test")
    report = judge.report(images, attributes[:, 0])
    assert report["images"] == 360
    assert report["accuracy"] == report["accuracy_real"]
    for name in ("frechet", "frechet_all"):
        assert report[name] == pytest.approx(report[f"{name}_floor"])
    assert report["recall"] == report["recall_real"] > 0.5
    noisy = (
        images.float() + 60 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    ).clamp(0, 255)
    worse = judge.report(noisy.to(torch.uint8), attributes)
    assert worse["frechet_all"] > 5 * worse["frechet_all_floor"]
    assert worse["precision"] < report["precision"]


def test_weights_are_small(judge):
    from importlib.resources import files

    assert (files("sgxl_t.metrics") / "assets" / JUDGE_FILES[judge.reference]).stat().st_size < 2 * 2**20


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 16, 16), "uint8"),
        (torch.zeros(1, 1, 16, 16, dtype=torch.uint8), "uint8"),
        (torch.zeros(1, 3, 24, 24, dtype=torch.uint8), "24 px"),
    ],
)
def test_unusable_pictures_are_named(images, message):
    with pytest.raises(ValueError, match=message):
        load_judge("digits").read(images)


def test_unknown_judges_and_attributes_are_named():
    with pytest.raises(ValueError, match="digits"):
        load_judge("cifar10")
    judge = load_judge("digits")
    with pytest.raises(ValueError, match="2 attributes"):
        judge.accuracy(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="captions"):
        judge.retrieval_at_1(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.zeros(1, 1), ["one"])
