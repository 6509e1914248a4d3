"""The plateau monitor stops late enough, soon enough, and alike after a resume."""

import itertools
import json
import math

import numpy as np
import pytest

from sgxl_t.metrics.plateau import PlateauConfig, PlateauMonitor, find_trend

STEP = 50.0
"""kimg between evaluations."""


def run(values, config=None, *, start=1, monitor=None):
    """Decisions up to the first that stops."""
    monitor = monitor or PlateauMonitor(config)
    decisions = []
    for index, value in enumerate(values, start):
        decisions.append(monitor.update(index * STEP, value))
        if decisions[-1].stop:
            break
    return decisions


def decaying(floor=5.0, height=50.0, tau=10.0, noise=0.02, count=300, seed=0):
    time = np.arange(count)
    curve = floor + height * np.exp(-time / tau)
    return curve * np.exp(noise * np.random.default_rng(seed).standard_normal(count))


def excess_at_stop(noise, curves):
    """Excess over the asymptote at the stop [curves], and the time of the stop in time constants [curves]."""
    random = np.random.default_rng(0)
    excess, times = [], []
    for _ in range(curves):
        floor, ratio, tau = random.uniform(2, 20), random.uniform(2, 20), random.uniform(10, 60)
        curve = (
            floor * (1 + ratio * math.exp(-time / tau)) * math.exp(noise * random.standard_normal())
            for time in itertools.count()
        )
        stop = len(run(curve)) - 1
        excess.append(ratio * math.exp(-stop / tau))
        times.append(stop / tau)
    return np.array(excess), np.array(times)


def test_at_two_percent_noise_two_of_a_hundred_runs_stop_early_at_most():
    """Early: more than 10 % above the asymptote. Curves a + b exp(-t / tau) of many shapes, no guards."""
    excess, times = excess_at_stop(noise=0.02, curves=300)
    assert (excess > 0.10).mean() <= 0.02
    assert np.median(excess) < 0.03
    assert np.quantile(times, 0.9) < 10


def test_more_noise_lengthens_the_window_and_keeps_early_stops_rare():
    excess, times = excess_at_stop(noise=0.06, curves=40)
    assert (excess > 0.10).mean() <= 0.05
    assert np.quantile(times, 0.9) < 12


def test_decisions_after_a_resume_equal_those_of_an_unbroken_run():
    values = [*decaying(count=60), math.nan, *decaying(count=240)[60:]]
    unbroken = run(values)
    assert unbroken[-1].reason == "plateau"
    for cut in (0, 3, 30, 61, len(unbroken) - 1):
        first = PlateauMonitor()
        before = run(values[:cut], monitor=first)
        second = PlateauMonitor()
        second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
        assert before + run(values[cut:], start=cut + 1, monitor=second) == unbroken


def test_the_state_taken_does_not_change_afterwards():
    monitor = PlateauMonitor()
    run(decaying(count=5), monitor=monitor)
    state = monitor.state_dict()
    copy = json.dumps(state)
    run(decaying(count=5), start=6, monitor=monitor)
    assert json.dumps(state) == copy
    monitor.load_state_dict(state)
    run(decaying(count=5), start=6, monitor=monitor)
    assert json.dumps(state) == copy


def test_trend_is_measured_in_kimg_and_promises_a_window():
    kimg = np.arange(20) * 7.0
    trend = find_trend(kimg, 3 * np.exp(-0.002 * np.arange(20)), PlateauConfig())
    assert trend.gain == pytest.approx(1 - math.exp(-0.002 * 20), rel=1e-9)
    assert (trend.window, trend.threshold, trend.flat) == (20, 0.01, False)
    assert trend.noise == pytest.approx(0, abs=1e-12)


def test_noise_sets_window_and_threshold_alike():
    random = np.random.default_rng(0)
    kimg, values = np.arange(100.0), np.exp(0.08 * random.standard_normal(100))
    trend = find_trend(kimg, values, PlateauConfig())
    assert trend.noise == pytest.approx(0.08, rel=0.6)
    assert trend.window == math.ceil(20 * (trend.noise / 0.02) ** (2 / 3))
    assert trend.threshold == pytest.approx(0.01 * trend.window / 20)
    assert find_trend(kimg[:25], values[-25:], PlateauConfig()).gain is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_values_that_are_no_positive_number_count_as_no_evaluation(bad):
    values = decaying()
    clean = [decision.reason for decision in run(values)]
    spoiled = run([*values[:40], bad, *values[40:]])
    assert (spoiled[40].reason, spoiled[40].value, spoiled[40].stop) == ("not finite", None, False)
    assert spoiled[40].best_value == spoiled[39].best_value
    assert [*spoiled[:40], *spoiled[41:]][-1].reason == "plateau"
    assert abs(len(spoiled) - 1 - len(clean)) <= 3


def test_evaluations_during_ramps_are_ignored():
    level = decaying(floor=10, height=0)
    quiet = PlateauMonitor()
    for index in range(1, 31):
        decision = quiet.update(index * STEP, 1.0, ramp=True)
        assert (decision.reason, decision.stop, decision.best_value) == ("ramp", False, None)
    decisions = run(level, start=31, monitor=quiet)
    assert len(decisions) == len(run(level))
    until = PlateauConfig(ignore_until=30 * STEP)
    decisions = run(level, until)
    assert {decision.reason for decision in decisions[:29]} == {"ramp"}
    assert decisions[29].reason == "waiting"
    assert decisions[-1].kimg >= (29 + 20 + 2) * STEP


def test_a_ramp_breaks_a_row_of_flat_trends():
    monitor = PlateauMonitor()
    for index in range(1, 22):
        decision = monitor.update(index * STEP, 5.0)
    assert (decision.held, decision.stop) == (2, False)
    assert monitor.update(22 * STEP, 5.0, ramp=True).held == 0
    rest = [monitor.update(index * STEP, 5.0) for index in range(23, 26)]
    assert [decision.stop for decision in rest] == [False, False, True]


def test_a_drop_within_the_window_of_a_level_keeps_the_stage_going():
    """A level shorter than the window, then a drop, as after a change of learning rate, then a level."""
    level = np.concatenate([np.full(18, 20.0), np.full(100, 10.0)])
    decisions = run(level * np.exp(0.02 * np.random.default_rng(1).standard_normal(118)))
    assert len(decisions) > 18 + 10
    assert decisions[-1].reason == "plateau"
    assert decisions[-1].best_value < 10.2
    assert "improving" in {decision.reason for decision in decisions[20:28]}


def test_stairs_are_followed_to_the_bottom():
    stairs = np.repeat([40.0, 30.0, 22.0, 17.0, 13.0, 10.0], 8).tolist() + [10.0] * 60
    noise = np.exp(0.01 * np.random.default_rng(0).standard_normal(len(stairs)))
    decisions = run(stairs * noise)
    assert decisions[-1].reason == "plateau"
    assert len(decisions) > 40 + 10


def test_no_plateau_is_called_before_the_minimum_length():
    config = PlateauConfig(min_kimg=60 * STEP)
    decisions = run(np.full(100, 5.0), config)
    assert {decision.reason for decision in decisions[24:59]} == {"min_kimg"}
    assert (decisions[-1].reason, decisions[-1].kimg) == ("plateau", 60 * STEP)


@pytest.mark.parametrize("last", [3.0, math.nan])
def test_the_maximum_length_stops_any_stage(last):
    falling = np.exp(-0.1 * np.arange(40))
    falling[29] = last
    decisions = run(falling, PlateauConfig(max_kimg=30 * STEP))
    assert (len(decisions), decisions[-1].reason, decisions[-1].stop) == (30, "max_kimg", True)


def test_divergence_stops_and_is_named():
    values = np.concatenate([decaying(count=25), np.linspace(12, 60, 60)])
    decisions = run(values)
    assert decisions[-1].reason == "diverged"
    assert 25 + 10 <= len(decisions) <= 25 + 20
    early = run(np.concatenate([[10.0] * 5, [30.0] * 40]), PlateauConfig(min_kimg=1e6))
    assert (early[-1].reason, len(early)) == ("diverged", 5 + 2 + 10)


def test_a_single_high_evaluation_is_no_divergence():
    values = np.full(60, 10.0)
    values[::7] = 100.0
    assert "diverged" not in {decision.reason for decision in run(values, PlateauConfig(max_kimg=55 * STEP))}


def test_best_is_the_middle_of_the_least_median_of_three():
    values = [9.0, 8.0, 7.0, 1.0, 6.5, 6.0, 6.2, 5.9, 7.0, 7.1]
    decisions = run(values)
    assert (decisions[1].best_kimg, decisions[1].best_value) == (None, None)
    assert (decisions[2].best_kimg, decisions[2].best_value) == (2 * STEP, 8.0)
    # The lucky 1.0 never counts as such.
    assert (decisions[-1].best_kimg, decisions[-1].best_value) == (5 * STEP, 6.0)


def test_time_must_grow_and_states_must_fit():
    monitor = PlateauMonitor()
    monitor.update(10, 1.0)
    with pytest.raises(ValueError, match="10 kimg follows one at 10"):
        monitor.update(10, 1.0)
    with pytest.raises(ValueError, match="give what state_dict returned"):
        monitor.load_state_dict({"kimg": []})
    with pytest.raises(ValueError, match="2 positions and 1 values"):
        monitor.load_state_dict({**monitor.state_dict(), "kimg": [1.0, 2.0]})


@pytest.mark.parametrize(
    "change",
    [{"window": 4}, {"hold": 0}, {"gain": 0.0}, {"gain": 1.0}, {"divergence": 1.0}, {"noise_base": 0.5}],
)
def test_impossible_rules_are_named(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        PlateauConfig(**change)
