"""A run with schedule.fit_minutes is as long as fits its minutes; its rates and its end follow."""

from types import SimpleNamespace

import pytest
import torch

from sgxl_t.training.config.parts import ScheduleConfig
from sgxl_t.training.loop import length
from sgxl_t.training.loop.learning_rate import learning_rate_factor
from sgxl_t.training.loop.length import FittedLength


@pytest.fixture
def clock(monkeypatch):
    """Seconds since the start of the process, set by tests."""
    now = [0.0]
    monkeypatch.setattr(length.time, "monotonic", lambda: now[0])
    return now


def state_of(images=0, fitted=None):
    return SimpleNamespace(images_seen=images, fitted=fitted)


def length_of(kimg=100, minutes=10.0, *, fit=True, began=0.0):
    runtime = SimpleNamespace(began=began, any=bool, mean=lambda value: value, device=torch.device("cpu"))
    return FittedLength(ScheduleConfig(kimg=kimg, max_minutes=minutes, fit_minutes=fit), runtime)


def train(fitted, state, clock, *, until, speed, tick=10):
    """Ticks of so many seconds to a time, at images per second."""
    while clock[0] < until:
        clock[0] += tick
        state.images_seen += round(speed * tick)
        fitted.fit(state)


@pytest.mark.parametrize("speed", [20, 166, 1000])
def test_the_length_ends_shortly_before_the_minutes_at_any_speed(clock, speed):
    clock[0] = 30  # features and the start
    fitted, state = length_of(), state_of()
    fitted.start(state)
    assert fitted.of(state) == 100_000
    train(fitted, state, clock, until=300, speed=speed)
    ends = 300 + (fitted.of(state) - state.images_seen) / speed
    assert ends == pytest.approx(600 * 0.98, abs=1)
    halfway = learning_rate_factor(state.images_seen, fitted.of(state), 0.2)
    assert 0.9 < halfway <= 1


def test_a_machine_that_slows_down_still_ends_in_time(clock):
    fitted, state = length_of(), state_of()
    fitted.start(state)
    train(fitted, state, clock, until=200, speed=200)
    train(fitted, state, clock, until=580, speed=50)
    assert state.images_seen + 20 * 50 > fitted.of(state)
    assert learning_rate_factor(state.images_seen, fitted.of(state), 0.2) < 0.25


def test_the_first_moments_do_not_count(clock):
    fitted, state = length_of(), state_of()
    fitted.start(state)
    train(fitted, state, clock, until=110, speed=1)
    assert fitted.of(state) == 100_000
    train(fitted, state, clock, until=120, speed=1)
    assert fitted.of(state) < 1000


def test_a_start_that_took_most_of_the_minutes_is_followed_by_little(clock):
    clock[0] = 595
    fitted, state = length_of(), state_of()
    fitted.start(state)
    train(fitted, state, clock, until=600, speed=10, tick=1)
    assert fitted.of(state) == state.images_seen == 50


def test_a_run_that_goes_on_has_new_minutes_and_one_that_has_ended_stays(clock):
    fitted, stopped, ended = length_of(), state_of(5000, (100_000, 8000)), state_of(8000, (100_000, 8000))
    fitted.start(stopped)
    assert fitted.of(stopped) == 100_000
    fitted.start(ended)
    assert fitted.of(ended) == 8000
    assert length_of(kimg=200).of(ended) == 200_000, "another length was asked for"


def test_without_the_setting_nothing_changes(clock):
    fitted, state = length_of(fit=False), state_of()
    fitted.start(state)
    train(fitted, state, clock, until=500, speed=1)
    assert (fitted.of(state), state.fitted) == (100_000, None)
    with pytest.raises(ValueError, match="fit_minutes=true has no minutes to fit"):
        ScheduleConfig(fit_minutes=True).check()
