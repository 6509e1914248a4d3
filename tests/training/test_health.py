"""Health of a run: each warning begins on a bad course, is over on a good one, survives resume, is shown."""

import json
import math
import time
from types import SimpleNamespace

import pytest
import torch
from planted_pictures import discs, planted
from tiny_runs import tiny_run
from torch import nn

from sgxl_t.cli.info import describe
from sgxl_t.conditioning import ClassCondition
from sgxl_t.conditioning.condition import NoCondition
from sgxl_t.training.callbacks.health import Health, Pool, read_health, warnings_on
from sgxl_t.training.callbacks.health_numbers import EmaFollowed, Looks, edges, grain
from sgxl_t.training.callbacks.health_rules import NOISE, rules_of
from sgxl_t.training.callbacks.report.run_report import write_run_report
from sgxl_t.training.callbacks.stats_file import newest_numbers, read_stats
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.config.parts import EmaConfig
from sgxl_t.training.loop import data
from sgxl_t.training.loop.ema import Ema
from sgxl_t.training.train import main

TICK = {
    "signs/real": 0.51,
    "signs/fake": -0.53,
    "scores/real": 0.86,
    "scores/fake": -0.89,
    "skipped_steps": 0,
    "loader_share": 0.03,
    "ema/followed": 0.9,
}
SNAPSHOT = {
    "variety/samples": 0.6,
    "variety/conditions": 1.2,
    "variety/nearest": 0.9,
    "looks/grain": 0.3,
    "looks/sharpness": 0.8,
    "looks/noise": 0.1,
}
CASES = {
    "d_too_strong": (
        "class",
        {"signs/real": 0.99, "signs/fake": -0.97},
        "the discriminator is too strong",
        "0.980",
    ),
    "saturated": (
        "class",
        {"scores/fake": -40},
        "the discriminator's scores are saturated",
        "40.0",
    ),
    "average_stands": ("class", {"ema/followed": 0}, "the average of the generator does not move", "0.0000"),
    "loader_bound": (
        "class",
        {"loader_share": 0.6},
        "training waits for the data",
        "0.60",
    ),
    "too_alike": ("text", {"variety/samples": 0.01}, "samples of one caption are too alike", "0.010"),
    "condition_ignored": ("text", {"variety/conditions": 0.01}, "captions are ignored", "0.010"),
    "one_picture_each": ("text", {"variety/conditions": 20}, "every caption has one picture alone", "20.0"),
    "grainy": ("none", {"looks/grain": 4.5}, "pictures are grainy", "4.5"),
    "noise_inputs": ("none", {"looks/noise": 0.6}, "noise inputs cover pictures with grain", "0.60"),
    "blurred": ("none", {"looks/sharpness": 0.2}, "pictures are blurred", "0.20"),
    "repeated": ("none", {"variety/nearest": 0.1}, "pictures repeat", "0.10"),
}


class Course:
    """A run's health as ticks or snapshots come in, one kimg apart."""

    def __init__(self, folder, cond="class", *, kimg=0, **settings):
        self.folder, self.kimg = folder, kimg
        arguments = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        self.rules = rules_of(parse_config(["--cond", cond, *arguments]).health_settings())
        stats = [line for line in read_stats(folder / "stats.jsonl") if line["images"] <= kimg * 1000]
        self.health = Health(folder, self.rules, images_seen=kimg * 1000, stats=stats)

    def goes(self, *lines):
        for line in lines:
            self.kimg += 1
            line = {"images": 1000 * self.kimg, **line}
            with (self.folder / "stats.jsonl").open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            self.health.take(line)
        return [(entry["rule"], entry["state"], entry["kimg"]) for entry in read_health(self.folder)]


def good_and_bad(changes):
    good = SNAPSHOT if changes.keys() <= SNAPSHOT.keys() else TICK
    return good, {**good, **changes}


@pytest.mark.parametrize("name", CASES)
def test_a_warning_begins_and_ends_once_and_only_on_evidence_enough(name, tmp_path, caplog):
    caplog.set_level("INFO")
    cond, changes, words, number = CASES[name]
    good, bad = good_and_bad(changes)
    course = Course(tmp_path, cond, **{"schedule.kimg": 4})
    rule = next(rule for rule in course.rules if rule.name == name)
    patience = rule.patience
    assert rule.pooled == 500 if name == "d_too_strong" else patience > 1
    assert course.goes(*[good] * 4, *[bad] * (patience - 1), good, *[bad] * (patience - 1)) == []
    begun = (name, "begins", course.kimg + 1)
    assert course.goes(bad) == [begun]
    assert course.goes(*[bad] * 5, *[good] * (patience - 1)) == [begun]
    over = (name, "over", course.kimg + 1)
    assert course.goes(*[good] * 5) == [begun, over]
    said = [record for record in caplog.records if words in record.getMessage()]
    assert [record.levelname for record in said] == ["WARNING", "INFO"]
    assert said[0].getMessage().startswith(f"{begun[2]:.1f} kimg: ")
    assert f" {number}" in said[0].getMessage()
    assert ", should be at " in said[0].getMessage()
    assert said[1].getMessage().startswith(f"{over[2]:.1f} kimg: over: ")


@pytest.mark.parametrize("cond", ["class", "text", "none"])
def test_a_healthy_course_is_silent(cond, tmp_path, caplog):
    assert Course(tmp_path, cond).goes(*[TICK, SNAPSHOT] * 6) == []
    assert caplog.records == []


def test_a_value_between_the_limits_changes_nothing(tmp_path):
    course = Course(tmp_path)
    bad, between = {**TICK, "loader_share": 0.4}, {**TICK, "loader_share": 0.22}
    assert course.goes(*[between] * 5) == []
    assert course.goes(*[bad] * 3, *[between] * 9) == [("loader_bound", "begins", 8)]


def test_snapshots_between_ticks_do_not_break_their_row(tmp_path):
    bad = {**TICK, "loader_share": 0.4}
    assert Course(tmp_path).goes(bad, SNAPSHOT, bad, SNAPSHOT, bad) == [("loader_bound", "begins", 5)]


def test_skipped_steps_count_since_the_tick_before(tmp_path):
    course = Course(tmp_path)
    skips = [{**TICK, "skipped_steps": count} for count in (2, 2, 3, 5, 9, 9, 9, 9)]
    assert course.goes(*skips) == [("steps_skipped", "begins", 5), ("steps_skipped", "over", 8)]
    assert (
        "gradients are not finite: steps skipped since the tick before: 4" in read_health(tmp_path)[0]["text"]
    )


def test_the_relativistic_loss_lets_scores_drift_together(tmp_path):
    drifted = {**TICK, "scores/real": -41.0, "scores/fake": -43.0, "signs/real": -1.0, "signs/fake": -1.0}
    loss = {"objective.loss": "relativistic"}
    assert Course(tmp_path, **loss).goes(*[drifted] * 4) == []
    apart = {**drifted, "scores/real": -10.0}
    assert Course(tmp_path, kimg=4, **loss).goes(*[apart] * 3) == [("saturated", "begins", 7)]


def test_numbers_that_are_not_finite_neither_warn_nor_crash(tmp_path):
    broken = {**TICK, "scores/real": math.nan, "scores/fake": math.nan, "signs/real": math.nan}
    assert Course(tmp_path).goes(*[broken] * 4) == []


# Short ticks -----------------------------------------------------------------------------------------------


def goes_in_short_ticks(course, signs, images=16):
    """One tick of so many images for each of `signs`; returns the images at which each warning came."""
    for number, sign in enumerate(signs, 1):
        line = {**TICK, "images": number * images, "signs/real": sign, "signs/fake": -sign}
        course.health.take(line)
    return [(entry["rule"], entry["state"], entry["images"]) for entry in read_health(course.folder)]


def test_a_discriminator_too_strong_is_seen_through_the_noise_of_short_ticks(tmp_path):
    noisy = [1.0, 0.98, 0.88, 1.0, 0.92, 1.0] * 20  # never three ticks in a row above the limit
    assert goes_in_short_ticks(Course(tmp_path), noisy) == [("d_too_strong", "begins", 512)]


def test_short_ticks_that_slip_upwards_are_no_discriminator_too_strong(tmp_path):
    noisy = [0.7, 1.0, 1.0, 1.0, 0.75, 0.9] * 20  # a mean of .89
    assert goes_in_short_ticks(Course(tmp_path), noisy) == []


def test_what_is_pooled_is_weighed_by_images_and_leaves_again(tmp_path):
    pool = Pool(100)
    lines = [{"images": images, "a": a} for images, a in ((60, 1.0), (100, 0.0), (190, 0.5), (200, 0.0))]
    assert [None if mean is None else mean["a"] for mean in map(pool.add, lines)] == [
        None,
        pytest.approx(0.6),
        pytest.approx((40 * 0 + 90 * 0.5) / 130),
        pytest.approx(0.45),
    ]
    assert pool.add({"images": 150, "a": 1.0}) is None, "the run went back"
    assert pool.add({"images": 250, "a": 1.0})["a"] == 1


# Resume -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", range(1, 12))
def test_a_resumed_course_equals_a_straight_one(stop, tmp_path):
    bad = {**TICK, "signs/real": 0.99, "signs/fake": -0.99, "skipped_steps": 1}
    good = {**TICK, "skipped_steps": 1}
    lines = [TICK, bad, bad, bad, bad, good, good, good, bad, bad, bad, bad]
    for name in ("straight", "parts"):
        (tmp_path / name).mkdir()
    straight = Course(tmp_path / "straight").goes(*lines)
    assert [state for _, state, _ in straight] == ["begins", "over", "begins"]
    Course(tmp_path / "parts").goes(*lines[:stop], *[bad] * 5)  # five lines past the checkpoint are lost
    assert Course(tmp_path / "parts", kimg=stop).goes(*lines[stop:]) == straight


def test_a_line_cut_by_a_crash_is_left_out(tmp_path):
    bad = {**TICK, "loader_share": 0.4}
    Course(tmp_path).goes(*[bad] * 3)
    with (tmp_path / "health.jsonl").open("a") as stream:
        stream.write('{"images": 30')
    assert Course(tmp_path, kimg=3).goes(*[bad] * 9) == [("loader_bound", "begins", 3)]


# Where it is shown ------------------------------------------------------------------------------------------


def test_the_report_says_what_goes_on_what_is_over_and_when_nothing_was_noticed(tmp_path):
    assert "Health" not in write_run_report(tmp_path).read_text(), "a run from before the rules"
    course = Course(tmp_path)
    assert "Nothing noticed." in write_run_report(tmp_path).read_text()
    course.goes(*[{**TICK, "loader_share": 0.4}] * 3)
    page = write_run_report(tmp_path).read_text()
    assert "Still so:" in page
    assert "training waits for the data: its share of the time is 0.40" in page
    course.goes(*[TICK] * 3)
    page = write_run_report(tmp_path).read_text()
    assert "All that was noticed is over." in page
    assert "over: training waits for the data: its share of the time is 0.03" in page
    assert page.count("<h2>Health</h2>") == 1


def test_info_names_the_warnings_that_go_on(tmp_path):
    (tmp_path / "config.yaml").write_text("cond: class\n")
    course = Course(tmp_path)
    course.goes(*[{**TICK, "loader_share": 0.4, "scores/real": 40}] * 3, *[TICK] * 2)
    found = describe(str(tmp_path))
    assert len(found["warnings"]) == 2
    assert found["warnings"][0].startswith("the discriminator's scores are saturated")
    course.goes(TICK, SNAPSHOT)
    found = describe(str(tmp_path))
    assert found["warnings"] == []
    assert found["newest_numbers"] == {"images": 7000, **TICK, **SNAPSHOT}


# Numbers ----------------------------------------------------------------------------------------------------


def test_an_average_follows_or_stands():
    network = nn.Sequential(nn.Linear(4, 300), nn.Linear(300, 4))
    network[1].requires_grad_(False)
    follows, stands = (Ema(network, EmaConfig(half_life_kimg=1, rampup=None)) for _ in range(2))
    watches = [EmaFollowed([(average, network)]) for average in (follows, stands)]
    assert [watch.followed() for watch in watches] == [None, None]
    with torch.no_grad():
        network[0].weight += 1
        network[1].weight += 100  # rests, so it does not count
    for mine, current in zip(follows.network.parameters(), network.parameters(), strict=True):
        mine.lerp_(current.detach(), 0.25)
    assert watches[0].followed() == pytest.approx(0.25, rel=1e-3)
    assert watches[1].followed() == 0
    watches[0].on_start(SimpleNamespace(images_seen=0))
    assert watches[0].followed() is None


def test_a_network_that_rests_whole_has_no_way():
    network = nn.Linear(2, 2).requires_grad_(False)
    assert EmaFollowed([(Ema(network, EmaConfig()), network)]).followed() is None


class Painter(nn.Module):
    """Plain pictures whose grey is by_latent * z + by_label * label."""

    def __init__(self, by_latent, by_label):
        super().__init__()
        self.by_latent, self.by_label = nn.Parameter(torch.tensor(by_latent)), by_label

    def forward(self, z, cond, *, truncation_psi, noise_mode):
        grey = self.by_latent * z[:, 0] + (0 if cond.c is None else self.by_label * (cond.c - 2.5))
        return grey.view(-1, 1, 1, 1).expand(-1, 3, 16, 16)


def variety(by_latent, by_label, condition=None):
    condition = condition or ClassCondition(tuple("abcdef"), torch.zeros(6, 4))
    conditions = [None] * 4 if condition.kind == "none" else range(6)
    real = torch.randint(
        0, 256, (64, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    return Looks(conditions, real, z_dim=4, seed=0)(Painter(by_latent, by_label), condition)


def test_variety_of_samples_and_of_conditions():
    both, ignored, collapsed = variety(0.3, 0.2), variety(0.3, 0.0), variety(0.002, 0.2)
    assert 0.2 < both["variety/samples"] < 1
    assert 0.5 < both["variety/conditions"] < 2
    assert ignored["variety/samples"] == pytest.approx(both["variety/samples"], rel=0.05)
    assert ignored["variety/conditions"] == 0
    assert collapsed["variety/samples"] < 0.02
    assert collapsed["variety/conditions"] > 10


def test_variety_of_one_picture_has_no_ratio():
    only = variety(0.0, 0.0)
    assert only["variety/samples"] == only["variety/nearest"] == 0
    assert "variety/conditions" not in only
    assert "variety/conditions" not in variety(0.3, 0.0, NoCondition())


def test_real_pictures_that_are_all_alike_give_no_measure():
    condition = ClassCondition(("a", "b"), torch.zeros(2, 4))
    numbers = Looks([0, 1], torch.zeros(4, 3, 8, 8, dtype=torch.uint8), z_dim=4, seed=0)
    assert numbers(Painter(0.3, 0.3), condition).keys() == {"variety/conditions", "looks/grain"}


def test_blur_counts_once_pictures_can_be_sharp(tmp_path):
    blurred = {**SNAPSHOT, "looks/sharpness": 0.1}
    course = Course(tmp_path, "none", **{"schedule.kimg": 20})
    assert course.goes(*[blurred] * 6) == []
    assert course.goes(blurred) == [("blurred", "begins", 7)]
    fading = {"objective.blur_init_sigma": 2, "objective.blur_fade_kimg": 10, "schedule.kimg": 20}
    (tmp_path / "fading").mkdir()
    assert Course(tmp_path / "fading", "none", **fading).goes(*[blurred] * 11) == []


class Shows(nn.Module):
    """A generator that shows given pictures, one per latent."""

    def __init__(self, pictures):
        super().__init__()
        self.weight, self.pictures = nn.Parameter(torch.zeros(1)), pictures

    def forward(self, z, cond, *, truncation_psi, noise_mode):
        return self.pictures[: len(z)].float() / 127.5 - 1


def looks(pictures):
    return Looks([None] * 4, discs(64), z_dim=4, seed=0)(Shows(pictures), NoCondition())


@pytest.mark.parametrize("name", ["grainy", "blurred", "repeated"])
def test_planted_faults_are_found_and_clean_pictures_pass(name):
    rules = rules_of(parse_config(["--cond", "none", "--schedule.kimg", "4"]).health_settings())
    clean = discs(36, seed=1)
    for pictures, broken in ((clean, []), (planted(name, clean), [name])):
        line = {"images": 4000, **looks(pictures)}
        values = {rule.name: rule.read(line, {}) for rule in rules}
        found = [
            rule.name for rule in rules if values[rule.name] is not None and rule.broken(values[rule.name])
        ]
        assert found == broken


def test_noise_inputs_are_measured_by_leaving_them_out():
    class Noisy(Shows):
        """Adds grain wherever noise is asked for."""

        def __init__(self, pictures):
            super().__init__(pictures)
            self.noise_strength = nn.Parameter(torch.ones(1))

        def forward(self, z, cond, *, truncation_psi, noise_mode):
            shown = planted("grainy", self.pictures) if noise_mode == "const" else self.pictures
            return shown[: len(z)].float() / 127.5 - 1

    noisy = Looks([None] * 4, discs(64), z_dim=4, seed=0)(Noisy(discs(36, seed=1)), NoCondition())
    assert noisy["looks/noise"] > NOISE
    assert "looks/noise" not in looks(discs(36, seed=1))


def test_grain_and_edges_of_flat_pictures_are_none():
    flat = torch.full((2, 3, 8, 8), 90, dtype=torch.uint8)
    assert max(grain(flat), edges(flat)) < 1e-3


# Whole runs -------------------------------------------------------------------------------------------------

LONGER = {"schedule__kimg": 0.04, "schedule__snapshot_kimg": 0.008, "log__track_images": 0}


def warned(folder):
    return {entry["rule"]: entry["text"] for entry in warnings_on(read_health(folder))}


def test_a_run_reports_the_numbers_of_its_health_and_resumes_them(tmp_path, tiny_features):
    settings = {"deterministic": "true", **LONGER}
    main(tiny_run(tmp_path / "run", tiny_features, **settings))
    main(tiny_run(tmp_path / "parts", tiny_features, **{**settings, "schedule__kimg": 0.016}))
    main(tiny_run(tmp_path / "parts", tiny_features, **settings))
    names = ("ema/followed", "variety/samples")
    for name in names:
        values = [
            [line[name] for line in read_stats(tmp_path / run / "stats.jsonl") if name in line]
            for run in ("run", "parts")
        ]
        assert len(values[0]) == 5
        assert values[0] == values[1]
    numbers = newest_numbers(read_stats(tmp_path / "run" / "stats.jsonl"))
    assert 0 < numbers["ema/followed"] < 2
    assert 0 <= numbers["loader_share"] < 1
    assert "<h2>Health</h2>" in (tmp_path / "run" / "report.html").read_text()


def test_a_discriminator_that_runs_away_is_named(tmp_path, tiny_features, caplog):
    main(tiny_run(tmp_path / "run", tiny_features, optimizer__d_lr=3, **LONGER))
    assert "saturated" in warned(tmp_path / "run")
    assert "the discriminator's scores are saturated" in caplog.text
    assert "the discriminator&#x27;s scores are saturated" in (tmp_path / "run" / "report.html").read_text()


def test_captions_that_are_ignored_are_named(tmp_path, tiny_features, caplog):
    # A caption times nothing is no caption.
    settings = {"generator__stylegan_t__text_scale": 0, "optimizer__g_lr": 0.02, **LONGER}
    main(tiny_run(tmp_path / "run", tiny_features, cond="text", **settings))
    assert warned(tmp_path / "run")["condition_ignored"].startswith("captions are ignored: ")
    assert "captions are ignored" in caplog.text
    assert "captions are ignored" in (tmp_path / "run" / "report.html").read_text()


def test_an_average_of_far_too_long_a_half_life_is_named(tmp_path, tiny_features, caplog):
    settings = {"ema__half_life_kimg": 10000, "ema__rampup": "null", **LONGER}
    main(tiny_run(tmp_path / "run", tiny_features, **settings))
    assert "lower ema.half_life_kimg, which is 10000" in warned(tmp_path / "run")["average_stands"]


def test_a_generator_that_stands_still_is_named_within_two_kimg(tmp_path, tiny_features, caplog):
    settings = {
        "optimizer__g_lr": 1e-7,
        "discriminator__projected__normalize_features": "true",
        "discriminator__projected__cout": 16,
        "discriminator__projected__head_width": 16,
        "discriminator__diff_augment": "",
        "objective__blur_init_sigma": 0,
        "batch__images": 16,
        "batch__per_device": 16,
        "schedule__tick_kimg": 0.016,
        "schedule__kimg": 2,
        "schedule__snapshot_kimg": 10,
        "schedule__checkpoint_kimg": 10,
        "log__track_images": 0,
    }
    main(tiny_run(tmp_path / "run", tiny_features, **settings))
    assert "d_too_strong" in warned(tmp_path / "run")


def test_a_slow_loader_is_named(tmp_path, tiny_features, monkeypatch):
    def slowly(*given, batches=data.batches, **named):
        for batch in batches(*given, **named):
            time.sleep(0.5)
            yield batch

    monkeypatch.setattr(data, "batches", slowly)
    settings = {"schedule__kimg": 0.024, "schedule__checkpoint_kimg": 1, "log__track_images": 0}
    main(tiny_run(tmp_path / "run", tiny_features, **settings))
    assert "Raise data.num_workers, which is 0" in warned(tmp_path / "run")["loader_bound"]
