"""Metrics of snapshots: the code of `sgxl-t evaluate`, the choice of best/, and the stop at a plateau."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import tiny_run

from sgxl_t.datasets.base import ImageSource, Sample
from sgxl_t.metrics.distances.frechet import frechet_distance
from sgxl_t.metrics.distances.prdc import precision_recall
from sgxl_t.metrics.features import load_extractor
from sgxl_t.metrics.features.extractor_cache import ExtractorCache
from sgxl_t.metrics.plateau import PlateauConfig, PlateauMonitor
from sgxl_t.metrics.real_cache import RealCache, RealImages
from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.training.callbacks.best import best_smoothed, metric_of
from sgxl_t.training.callbacks.plateau import PlateauRule
from sgxl_t.training.callbacks.stats_file import read_stats
from sgxl_t.training.callbacks.tracked_metrics import floors
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.config.parts import tracked_specs
from sgxl_t.training.train import main

EVERY = {"schedule__snapshot_kimg": 0.008, "schedule__kimg": 0.032}


def tracked(folder, name="fd_contrast_16_vs_16"):
    return [line[name] for line in read_stats(folder / "stats.jsonl") if name in line]


def test_snapshots_measure_what_is_asked_and_keep_the_best(tmp_path, tiny_features):
    main(
        tiny_run(
            tmp_path / "run", tiny_features, log__metrics="[fd_random,kd_random_12,pr_random_8_vs_9]", **EVERY
        )
    )
    values = tracked(tmp_path / "run", "fd_random_16_vs_16")
    assert len(values) == 4
    assert len(tracked(tmp_path / "run", "kd_random_12_vs_12")) == 4
    assert len(tracked(tmp_path / "run", "pr_random_8_vs_9_recall")) == 4
    best = json.loads((tmp_path / "run" / "best" / "metrics.json").read_text())
    assert best["fd_random_16_vs_16"] == values[best_smoothed(values)]
    assert "fd_random_16_vs_16: 16 against 16" in best["protocol"]


def test_a_mirrored_data_set_is_measured_as_it_is_stored(tmp_path, tiny_features):
    main(tiny_run(tmp_path / "run", tiny_features, data__mirror="true"))
    assert len(tracked(tmp_path / "run")) == 1


def test_features_that_are_not_finite_do_not_end_a_run(tmp_path, tiny_features, monkeypatch, caplog):
    pooled = FeatureNetwork.pooled
    monkeypatch.setattr(FeatureNetwork, "pooled", lambda self, images: pooled(self, images) * torch.nan)
    main(tiny_run(tmp_path / "run", tiny_features, cond="none", log__metrics="[fd_random]"))
    assert tracked(tmp_path / "run", "fd_random_16_vs_16") == []
    assert "a tracked metric cannot be given" in caplog.text
    assert (tmp_path / "run" / "last" / "config.json").exists()
    assert (tmp_path / "run" / "best" / "config.json").exists(), "the newest, while nothing else is known"


@pytest.fixture
def _soon(monkeypatch):
    """A monitor that is content with five evaluations and any gain below 99 %."""
    config = PlateauConfig(window=5, gain=0.99, hold=1, noise_base=9, noise_limit=10, divergence=1e9)
    monkeypatch.setattr("sgxl_t.training.callbacks.plateau.PlateauMonitor", lambda: PlateauMonitor(config))


@pytest.mark.usefixtures("_soon")
def test_a_run_stops_at_its_plateau_only_where_asked(tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    settings = {"schedule__snapshot_kimg": 0.008, "schedule__kimg": 0.064}
    main(tiny_run(tmp_path / "run", tiny_features, schedule__plateau="true", **settings))
    _, _, state = load_newest(tmp_path / "run" / "checkpoints")
    assert state["images_seen"] == 40
    assert state["plateau"]["stop"]
    assert any("plateau: plateau, gain" in line and line.endswith(", stop") for line in caplog.messages)
    main(tiny_run(tmp_path / "run", tiny_features, schedule__plateau="true", **settings))
    assert load_newest(tmp_path / "run" / "checkpoints")[2]["images_seen"] == 40, "it stays at rest"
    main(tiny_run(tmp_path / "run", tiny_features, **settings))
    assert load_newest(tmp_path / "run" / "checkpoints")[2]["images_seen"] == 64, "unless told to go on"


@pytest.mark.usefixtures("_soon")
def test_the_monitor_of_a_resumed_run_equals_that_of_a_straight_one(tmp_path, tiny_features):
    settings = {"schedule__snapshot_kimg": 0.008, "deterministic": "true"}
    main(tiny_run(tmp_path / "straight", tiny_features, schedule__kimg=0.048, **settings))
    main(tiny_run(tmp_path / "parts", tiny_features, schedule__kimg=0.024, **settings))
    main(tiny_run(tmp_path / "parts", tiny_features, schedule__kimg=0.048, **settings))
    states = [load_newest(tmp_path / name / "checkpoints")[2] for name in ("straight", "parts")]
    assert states[0]["plateau"] == states[1]["plateau"]
    assert len(states[0]["plateau"]["monitor"]["values"]) == 6
    assert states[0]["snapshots"] == states[1]["snapshots"]


def test_snapshots_off_the_interval_and_ramps_are_no_evaluations():
    rule = PlateauRule(1, ramp_kimg=1.5, ends=True)
    rule.update(1000, 5.0)
    for images in (2000, 2500, 3000):
        rule.update(images, 4.0)
    rule.update(4000, math.nan)
    assert rule.monitor.state_dict()["kimg"] == [2.0, 3.0]
    assert not rule.stop
    assert rule.ended_by is None


@pytest.mark.usefixtures("_soon")
def test_verdicts_are_told_once_also_after_a_resume(tmp_path, caplog):
    caplog.set_level("INFO")
    rule = PlateauRule(1, ramp_kimg=0, ends=True)
    for kimg in (1, 2):
        rule.update(kimg * 1000, 4.0)
    resumed = PlateauRule(1, ramp_kimg=0, ends=True)
    resumed.load_state_dict(rule.state_dict(), tmp_path)
    for kimg in range(3, 9):
        resumed.update(kimg * 1000, 4.0)
    assert resumed.ended_by == "plateau"
    assert caplog.messages == [
        "plateau: waiting, no trend before 5 snapshots",
        "plateau: plateau, gain 0.00% per 5 snapshots, noise 0.0%, stop",
    ]


def test_counts_of_tracked_metrics():
    names = ["fd_random", "fid2k_full", "kd_random_300_vs_50"]
    specs = {spec.name: (spec.n_fake, spec.n_real) for spec in tracked_specs(names, 1000)}
    assert specs == {
        "fd_random_1k_vs_1k": (1000, 1000),
        "fid2k_full": (2000, None),
        "kd_random_300_vs_50": (300, 50),
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--log.metrics", "[fidd]"], "did you mean fid"),
        (["--log.metrics", "[is1k,fd_random]"], "rises with quality"),
        (["--schedule.plateau", "true", "--log.track_images", "0"], "stops by a tracked metric"),
    ],
)
def test_wrong_metrics_stop_before_the_run(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_config(["--cond", "none", *arguments])


def test_by_default_contrast_and_recall_are_tracked_beside_real_pictures(tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    main(tiny_run(tmp_path / "run", tiny_features, cond="none"))
    best = json.loads((tmp_path / "run" / "best" / "metrics.json").read_text())
    assert best["fd_contrast_16_vs_16"] > 0
    assert 0 <= best["pr_contrast_16_vs_16_recall"] <= 1
    assert "fd_contrast_16_vs_16 " in best["real_against_real"]
    (line,) = [one for one in caplog.messages if "kimg: fd_contrast" in one]
    assert "(real pictures " in line
    assert "recall" in line
    assert "has 1437 pictures: with fewer than 2,000" in best["warning"]
    assert "has 1437 pictures: with fewer than 2,000" in caplog.text


class NoiseSource(ImageSource):
    """As many pictures of noise."""

    def __init__(self, count):
        super().__init__(resolution=8)
        self.count = count

    def fingerprint(self):
        return f"noise-{self.count}"

    def _count(self):
        return self.count

    def _read(self, index):
        rng = torch.Generator().manual_seed(index)
        return Sample(torch.randint(0, 256, (3, 8, 8), generator=rng, dtype=torch.uint8))


def test_the_floor_is_that_of_real_pictures_at_the_counts_of_the_metric():
    names = ("fd_contrast_20", "pr_contrast_20", "fd_contrast_30")
    real = RealImages(NoiseSource(40), "noise")
    found = floors(real, tracked_specs(names, 20), ExtractorCache(), RealCache(None))
    first, other = (
        load_extractor("contrast")(real.images(part))["shares"] for part in (range(20), range(20, 40))
    )
    assert found["fd_contrast_20_vs_20"] == pytest.approx(frechet_distance(first, other), rel=1e-6)
    assert found["fd_contrast_30_vs_30"] == pytest.approx(frechet_distance(first, other) * 20 / 30, rel=1e-6)
    assert found["pr_contrast_20_vs_20_recall"] == precision_recall(first, other)[1]


def test_too_few_pictures_for_neighbours_give_no_recall_and_end_nothing(tmp_path, tiny_features, caplog):
    main(tiny_run(tmp_path / "run", tiny_features, cond="none", log__track_images=3))
    assert len(tracked(tmp_path / "run", "fd_contrast_3_vs_3")) == 1
    assert tracked(tmp_path / "run", "pr_contrast_3_vs_3_recall") == []
    assert "need more pictures than that on both sides" in caplog.text


def test_a_resumed_run_that_tracks_another_metric_chooses_best_anew(tmp_path, tiny_features, caplog):
    before = {**EVERY, "schedule__kimg": 0.016, "log__metrics": "[fd_random]"}
    main(tiny_run(tmp_path / "run", tiny_features, cond="none", **before))
    main(tiny_run(tmp_path / "run", tiny_features, cond="none", **EVERY))
    assert "best/ was chosen by fd_random_16_vs_16 and now goes by fd_contrast_16_vs_16" in caplog.text
    _, _, state = load_newest(tmp_path / "run" / "checkpoints")
    assert state["snapshots"]["metric"] == state["plateau"]["metric"] == "fd_contrast_16_vs_16"
    assert state["snapshots"]["images"] == [24, 32]
    assert len(state["plateau"]["monitor"]["values"]) == 2


def test_states_that_name_no_metric_are_those_of_the_number_in_best(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "metrics.json").write_text('{"fd_random_16_vs_16": 1.5, "protocol": "as it was"}')
    assert metric_of({"values": [1.5]}, tmp_path) == "fd_random_16_vs_16"
    assert metric_of({"values": []}, tmp_path / "elsewhere") is None
    assert metric_of({"metric": "fid10k"}, tmp_path) == "fid10k"


def test_another_set_of_captions_can_be_tracked(tmp_path, tiny_features):
    pictures = tmp_path / "zero-shot"
    pictures.mkdir()
    for number in range(20):
        side = np.full((16, 16, 3), 12 * number, np.uint8)
        Image.fromarray(side).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text(f"shade {number}")
    settings = {"cond": "text", "log__track_source": pictures}
    clip = f"local:{tiny_features / 'clip'}"
    arguments = tiny_run(tmp_path / "run", tiny_features, **settings)
    main([*arguments, "--log.metrics", f'["fd_random", "cs_{clip}"]'])
    stored = json.loads((tmp_path / "run" / "best" / "metrics.json").read_text())
    assert f"against pictures of {pictures}" in stored["protocol"]
    assert stored["fd_random_16_vs_16"] > 0
    assert any(name.startswith("cs_") for name in stored)


@pytest.mark.parametrize(
    ("cond", "words"), [("text", "has no captions, cond=text needs"), ("class", "names them otherwise")]
)
def test_a_tracked_set_that_does_not_fit_is_one_sentence(cond, words, tmp_path, tiny_features, capsys):
    (tmp_path / "set" / "one").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(tmp_path / "set" / "one" / "a.png")
    arguments = tiny_run(tmp_path / "run", tiny_features, cond=cond, log__track_source=tmp_path / "set")
    with pytest.raises(SystemExit):
        main(arguments)
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
