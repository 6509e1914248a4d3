"""Names of metrics: what they promise, in every spelling."""

import pytest

from sgxl_t.metrics.protocol import METRICS, other_weights, parse_metric, parse_metrics


@pytest.mark.parametrize(
    ("text", "name", "count", "real"),
    [
        ("fid", "fid50k_full", 50_000, None),
        ("fid10k", "fid10k_full", 10_000, None),
        ("fid500", "fid500_full", 500, None),
        ("fid10k_vs_5k", "fid10k_full_vs_5k", 10_000, 5_000),
        ("kid2k", "kid2k_full", 2_000, 1_000_000),
        ("kid_full_2k", "kid_full_2k", 2_000, 1_000_000),
        ("is", "is50k", 50_000, 0),
        ("pr2k", "pr2k3_vgg_full", 2_000, 200_000),
        ("pr500", "pr500_k3_vgg_full", 500, 200_000),
        ("pr50k3_inc_10k", "pr50k3_inc_10k", 50_000, 10_000),
        ("cmmd2k", "cmmd2k", 2_000, 2_000),
        ("rfid_hash10k", "rfid_hash10k_full", 10_000, None),
        ("fid30k_coco64", "fid30k_coco64", 30_000, None),
        ("eqt50k_frac", "eqt50k_frac", 50_000, 0),
        ("fd_dinov2", "fd_dinov2_50k", 50_000, None),
        ("fd2k_random", "fd_random_2k", 2_000, None),
        ("fd_clip_vit_l14_336", "fd_clip_vit_l14_336_50k", 50_000, None),
        ("fd300_local:some/folder_2k", "fd_local_300", 300, None),
        ("fd_timm:resnet18.a1_in1k", "fd_timm_resnet18_a1_in1k_50k", 50_000, None),
    ],
)
def test_a_name_says_its_counts(text, name, count, real):
    spec = parse_metric(text)
    assert (spec.name, spec.n_fake, spec.n_real) == (name, count, real)


@pytest.mark.parametrize("name", METRICS)
def test_canonical_names_mean_themselves(name):
    assert parse_metric(name) == METRICS[name]


def test_only_the_inception_makes_a_fid():
    assert {spec.extractor for name, spec in METRICS.items() if name.startswith("fid50k")} == {"inception"}
    assert other_weights(parse_metric("fid10k")).name == "fd_inception_10k"
    assert other_weights(parse_metric("sfid2k_vs_1k")).name == "fd_inception_spatial_2k_vs_1k"
    assert other_weights(parse_metric("pr_inc")).name == "pr_inception_50k_vs_10k"


def test_presets_choose_metrics_words_and_covariances():
    assert [spec.name for spec in parse_metrics("", preset="clean")] == ["cleanfid50k_full"]
    assert parse_metric("pr", preset="adm").name == "pr50k3_inc_10k"
    assert (parse_metric("fid").ddof, parse_metric("fid", preset="official").ddof) == (1, 0)
    assert [spec.name for spec in parse_metrics("fid, fid50k_full,kid")] == ["fid50k_full", "kid50k_full"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fidd", "did you mean fid"),
        ("fid1", "at least 2"),
        ("fd_local", "fd_local:FOLDER"),
        ("fd_nothing", "there is no metric"),
        ("is5k_vs_2k", "leave _vs_2k out"),
        ("", "there is no metric"),
    ],
)
def test_other_names_are_one_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_metric(text)
    with pytest.raises(ValueError, match="no preset 'x'"):
        parse_metric("fid", preset="x")


def test_the_protocol_changes_with_what_moves_the_number():
    fid, facts = parse_metric("fid10k"), {"extractor_hash": "a", "data_fingerprint": "b"}
    same = parse_metric("fid10k_full")
    assert fid.protocol(facts) == same.protocol(dict(facts))
    for other in ("fid50k", "fid10k_vs_5k", "sfid10k"):
        assert parse_metric(other).protocol(facts) != fid.protocol(facts)
    assert fid.protocol({**facts, "extractor_hash": "c"}) != fid.protocol(facts)
    assert parse_metric("fid10k", preset="official").protocol(facts) != fid.protocol(facts)
    here, there = parse_metric("fd2k_local:here"), parse_metric("fd2k_local:there")
    assert here.protocol(facts) == there.protocol(facts), "a local network is known by its hash"
