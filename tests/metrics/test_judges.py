"""The packaged judges read real pictures right and report what is wrong with others."""

import pytest
import torch

from sgxl_t.metrics.judges.judges import JUDGE_FILES, load_judge, read_source, resized

SCENES = "emoji-scenes:24x8"


@pytest.fixture(
    scope="module", params=[(name, side) for name, sides in JUDGE_FILES.items() for side in sides], ids=str
)
def judge(request):
    return load_judge(*request.param)


@pytest.fixture(scope="module")
def judge64():
    return load_judge(SCENES, 64)


def some(judge, split, count=150):
    return read_source(judge.reference, judge.resolution, split, count)


def test_real_pictures_are_read_right(judge):
    images, attributes, captions = some(judge, "test")
    scores = judge.accuracy(images, attributes)
    assert set(scores) == {"all", *judge.attributes}
    assert min(scores.values()) >= 0.99
    if judge.clip is not None:
        assert judge.retrieval_at_1(images, attributes, captions) >= 0.95


def test_pairs_kept_out_of_training_are_read_right(judge64):
    judge = load_judge(SCENES)
    images, attributes, captions = some(judge, "held_out")
    assert judge.accuracy(images, attributes)["all"] >= 0.99
    assert judge.retrieval_at_1(images, attributes, captions) >= 0.95
    images, attributes, _ = some(judge64, "held_out")
    assert judge64.accuracy(images, attributes)["all"] >= 0.99


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


def test_pictures_of_half_the_side_are_read_right(judge):
    images, attributes, _ = read_source(judge.reference, judge.resolution // 2, "test", 150)
    assert min(judge.accuracy(images, attributes).values()) >= 0.98


def test_pictures_of_a_quarter_of_the_side_are_read_right(judge64):
    images, attributes, _ = read_source(SCENES, 16, "test", 150)
    assert min(judge64.accuracy(images, attributes).values()) >= 0.98


@pytest.mark.parametrize(("resolution", "side"), [(None, 32), (16, 32), (32, 32), (64, 64), (128, 64)])
def test_judges_suit_the_side_of_the_pictures(resolution, side):
    assert load_judge(SCENES, resolution).resolution == side


def test_enlarging_keeps_flat_pictures_and_reducing_undoes_it():
    images = torch.arange(0, 256, 5, dtype=torch.uint8).reshape(-1, 1, 1, 1).repeat(1, 3, 8, 8)
    large = resized(images, 32)
    assert torch.equal(large, images[:, :, :1, :1].expand(-1, -1, 32, 32))
    assert torch.equal(resized(large, 8), images)
    edge = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    edge[..., 2:] = 255
    assert (resized(edge, 8).diff(dim=-1) >= 0).all()  # overshoot is clipped, not wrapped around


@pytest.mark.slow
def test_small_pictures_meet_real_ones_of_their_side():
    judge = load_judge(SCENES, 16)
    images, attributes, captions = read_source(SCENES, 16, "test", 400)
    report = judge.report(images, attributes, captions)
    assert report["resolution"] == 16
    assert report["frechet"] == pytest.approx(report["frechet_floor"])
    assert report["recall"] == report["recall_real"]
    assert report["accuracy"]["object"] >= 0.99
    # Large pictures after small ones: what was kept of one side is not taken for the other.
    large = resized(read_source(SCENES, 64, "test", 400)[0], 32)
    at_32 = judge.report(large, attributes)
    assert at_32["resolution"] == 32
    assert at_32["frechet"] == pytest.approx(at_32["frechet_floor"], rel=0.05)
    assert at_32["frechet_floor"] != report["frechet_floor"]


@pytest.mark.slow
def test_lost_sharpness_counts_at_the_larger_side_alone(judge64):
    images, attributes, _ = read_source(SCENES, 64, "test")
    small = resized(images, 32)
    sharp, own, soft = (
        judge64.report(images, attributes),
        judge64.report(small, attributes),
        judge64.report(small, attributes, at=64),
    )
    assert (sharp["resolution"], own["resolution"], soft["resolution"]) == (64, 32, 64)
    assert soft["frechet_floor"] == sharp["frechet_floor"] == pytest.approx(sharp["frechet"])
    assert own["frechet_all"] == pytest.approx(own["frechet_all_floor"], rel=0.05)
    assert soft["frechet"] > 1.4 * soft["frechet_floor"]
    assert soft["frechet_all"] > 4 * soft["frechet_all_floor"]
    assert soft["accuracy"]["all"] >= 0.98
    with pytest.raises(ValueError, match="at=128 does not divide the 64 px of the judge"):
        judge64.report(images, attributes, at=128)


def test_a_class_model_is_asked_for_the_sprite_alone():
    judge = load_judge(SCENES, 16)
    images, attributes, _ = read_source(SCENES, 16, "test", 60)
    labels = attributes[:, 0].clone()
    labels[:30] = (labels[:30] + 1) % 24
    assert judge.accuracy(images, labels, ("object",)) == {"all": 0.5, "object": 0.5}
    both = judge.accuracy(images, attributes[:, [2, 0]], ("size", "object"))
    assert both == {"all": 1.0, "size": 1.0, "object": 1.0}
    report = judge.report(images, labels, attributes=("object",))
    assert report["accuracy"] == {"all": 0.5, "object": 0.5}
    assert set(report["accuracy_real"]) == {"all", "object"}
    with pytest.raises(ValueError, match="reads no 'colour': name some of object, scene, size"):
        judge.accuracy(images, labels, ("colour",))


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

    name = JUDGE_FILES[judge.reference][judge.resolution]
    assert (files("sgxl_t.metrics.judges") / "assets" / name).stat().st_size < 2 * 2**20


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 16, 16), "uint8"),
        (torch.zeros(1, 1, 16, 16, dtype=torch.uint8), "uint8"),
        (torch.zeros(1, 3, 24, 24, dtype=torch.uint8), "24 px cannot be judged at 16 px"),
        (torch.zeros(1, 3, 12, 12, dtype=torch.uint8), "12 px cannot be judged at 16 px"),
        (torch.zeros(1, 3, 16, 8, dtype=torch.uint8), "16 x 8 px"),
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


def test_the_clip_score_tells_a_pictures_own_caption_from_anothers():
    judge = load_judge("emoji-scenes:24x8")
    images, _, captions = read_source("emoji-scenes:24x8", 32, "test", 64)
    own = judge.clip_score(images, captions)
    assert own > 0.5 > judge.clip_score(images, captions[1:] + captions[:1])
    assert own <= 1
    with pytest.raises(ValueError, match="knows no captions"):
        load_judge("digits").clip_score(images[:1, :, :16, :16], ["one"])
