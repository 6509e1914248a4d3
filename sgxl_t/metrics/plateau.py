"""Decides when a training stage no longer improves: the trend of a noisy metric against a threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from statistics import median
from typing import Any, Literal

import numpy as np

Reason = Literal[
    "improving",  # the trend promises more than the threshold
    "flat",  # it does not, but not yet often enough in a row
    "plateau",  # often enough: stop
    "min_kimg",  # often enough, but the stage has a minimum length
    "rising",  # far above its best, but not yet for long
    "waiting",  # too few evaluations for a trend
    "ramp",  # ignored: a schedule was still moving
    "not finite",  # ignored: no positive finite number
    "max_kimg",  # the stage has had its time: stop
    "diverged",  # far above its best for long: stop
]
_STOPS = ("plateau", "max_kimg", "diverged")
_SMOOTH = 3
"""Evaluations whose median is the smoothed value."""
_RECENT = 5
"""Evaluations whose median is compared with the best."""
_NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True)
class PlateauConfig:
    """Rules of `PlateauMonitor`; the defaults stop too early in about 1 of 100 runs at 2 % noise."""

    window: int = 20
    """Evaluations that a trend is fitted to; noise above `noise_limit` lengthens it."""
    gain: float = 0.01
    """Relative gain over `window` evaluations below which the stage is flat."""
    hold: int = 3
    """Flat trends in a row that stop the stage."""
    noise_limit: float = 0.03
    """Relative noise of an evaluation above which the window grows, as (noise / `noise_base`)^(2/3)."""
    noise_base: float = 0.02
    """Relative noise that `window` suits."""
    min_kimg: float = 0.0
    """No plateau is called before this many thousand images."""
    max_kimg: float | None = None
    """The stage stops here in any case."""
    ignore_until: float = 0.0
    """Evaluations before this many thousand images are ignored: schedules such as fade-in still move."""
    divergence: float = 1.5
    """The median of the last 5 evaluations may not exceed the best by this factor ..."""
    divergence_hold: int = 10
    """... for this many evaluations in a row."""

    def __post_init__(self) -> None:
        if self.window < 5 or self.hold < 1 or self.divergence_hold < 1:
            raise ValueError(
                f"window={self.window}, hold={self.hold}, divergence_hold={self.divergence_hold}: "
                "a trend needs a window of at least 5 evaluations, and the others are at least 1"
            )
        if not (0 < self.gain < 1 and 0 < self.noise_base <= self.noise_limit and self.divergence > 1):
            raise ValueError(
                f"gain={self.gain}, noise_base={self.noise_base}, noise_limit={self.noise_limit}, "
                f"divergence={self.divergence}: gain lies in 0..1, noise_base above 0 and not above "
                "noise_limit, divergence above 1"
            )


@dataclass(frozen=True)
class Decision:
    """What a `PlateauMonitor` concluded from an evaluation, ready for a log line by `dataclasses.asdict`."""

    kimg: float
    value: float | None
    """The metric; None where it was no positive finite number."""
    stop: bool
    reason: Reason
    gain: float | None
    """Relative gain that the trend promises over the next window; None without a trend."""
    threshold: float | None
    """Gain below which the trend counts as flat."""
    noise: float | None
    """Relative standard deviation of an evaluation about the trend."""
    window: int
    """Evaluations the trend was fitted to, or waits for."""
    held: int
    """Flat trends in a row."""
    best_kimg: float | None
    """Position of the best smoothed value: the middle one of three evaluations."""
    best_value: float | None
    """The best smoothed value: the least median of three evaluations in a row."""


class PlateauMonitor:
    """Watches a falling metric, whose floor is unknown, and says when further training does not pay.

    The trend is the Theil-Sen slope of the logarithm over the last evaluations; the stage stops when it
    promises less than 1 % per window three times in a row. Evaluations should come at equal distances, from
    fixed samples. Single lucky or unlucky evaluations move neither slope nor best. All state is plain numbers
    (`state_dict`), so that a resumed run decides the same.
    """

    def __init__(self, config: PlateauConfig | None = None) -> None:
        self.config = config or PlateauConfig()
        self._state = _State()

    def update(self, kimg: float, value: float, *, ramp: bool = False) -> Decision:
        """Takes an evaluation after `kimg` thousand images of this stage and decides.

        value: the metric, lower is better. One that is not finite or not positive counts as no evaluation.
        ramp: a schedule (fade-in, blur, learning rate) is moving; the evaluation is ignored.
        Raises ValueError where kimg does not grow.
        """
        kimg, value, state, config = float(kimg), float(value), self._state, self.config
        state.advance(kimg)
        usable = math.isfinite(value) and value > 0
        trend: Trend | None = None
        reason: Reason = "not finite"
        if ramp or kimg < config.ignore_until:
            state.held, reason = 0, "ramp"
        elif usable:
            state.add(kimg, value, config.divergence)
            trend = find_trend(state.kimg, state.values, config)
            state.held = state.held + 1 if trend.flat else 0
            reason = _judge(state, trend, config)
        if reason != "diverged" and config.max_kimg is not None and kimg >= config.max_kimg:
            reason = "max_kimg"
        return _decision(state, trend or Trend(config.window), value if usable else None, reason)

    def state_dict(self) -> dict[str, Any]:
        """All state as numbers and lists of numbers, for JSON."""
        return asdict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; ValueError for other contents."""
        self._state = _state_from(state)


@dataclass(frozen=True)
class Trend:
    """A fit to the last evaluations; without numbers where there are fewer than `window`."""

    window: int
    gain: float | None = None
    threshold: float | None = None
    noise: float | None = None

    @property
    def flat(self) -> bool:
        """Whether the trend promises less than the threshold."""
        return self.gain is not None and self.threshold is not None and self.gain < self.threshold


def find_trend(kimg: Sequence[float], values: Sequence[float], config: PlateauConfig) -> Trend:
    """Relative gain over the next window, by the Theil-Sen slope of log values (Theil 1950, Sen 1968).

    The noise is that of the residuals. Where it exceeds the limit the window grows, which brings the error of
    the slope, noise sqrt(12 / window^3), back to that of the usual case; the threshold stays as it is for
    each evaluation.
    """
    window = config.window
    if len(values) < window:
        return Trend(window)
    position, level = np.asarray(kimg), np.log(np.asarray(values))
    slope, noise = _theil_sen(position[-window:], level[-window:])
    if noise > config.noise_limit:
        window = math.ceil(window * math.pow(noise / config.noise_base, 2 / 3))
        if len(values) < window:
            return Trend(window, noise=noise)
        slope, _ = _theil_sen(position[-window:], level[-window:])
    spacing = (position[-1] - position[-window]) / (window - 1)
    gain = 1 - math.exp(slope * spacing * window)
    return Trend(window, gain, config.gain * window / config.window, noise)


def _theil_sen(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Median slope over all pairs, and the robust standard deviation of the residuals."""
    first, second = _pairs(len(x))
    slope = np.median((y[second] - y[first]) / (x[second] - x[first]))
    residuals = y - slope * x
    noise = _NORMAL_MAD * np.median(np.abs(residuals - np.median(residuals)))
    return float(slope), float(noise)


@lru_cache(maxsize=8)
def _pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(count, 1)


@dataclass
class _State:
    """What a monitor knows: usable evaluations of this stage and its counters."""

    kimg: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    last_kimg: float | None = None
    held: int = 0
    diverging: int = 0
    best_kimg: float | None = None
    best_value: float | None = None

    def advance(self, kimg: float) -> None:
        if self.last_kimg is not None and not kimg > self.last_kimg:
            raise ValueError(
                f"an evaluation at {kimg:g} kimg follows one at {self.last_kimg:g}: "
                "give them in order, or restore the state that belongs to the checkpoint"
            )
        self.last_kimg = kimg

    def add(self, kimg: float, value: float, divergence: float) -> None:
        self.kimg.append(kimg)
        self.values.append(value)
        if len(self.values) >= _SMOOTH:
            smoothed = median(self.values[-_SMOOTH:])
            if self.best_value is None or smoothed < self.best_value:
                self.best_kimg, self.best_value = self.kimg[-1 - _SMOOTH // 2], smoothed
        recent = self.values[-_RECENT:]
        best = math.inf if self.best_value is None else self.best_value
        above = len(recent) == _RECENT and median(recent) > divergence * best
        self.diverging = self.diverging + 1 if above else 0


def _state_from(state: dict[str, Any]) -> _State:
    names = {item.name for item in fields(_State)}
    if set(state) != names:
        raise ValueError(
            f"the state holds {', '.join(sorted(state)) or 'nothing'} but a plateau monitor's holds "
            f"{', '.join(sorted(names))}: give what state_dict returned"
        )
    if len(state["kimg"]) != len(state["values"]):
        raise ValueError(
            f"the state holds {len(state['kimg'])} positions and {len(state['values'])} values: "
            "give what state_dict returned"
        )
    return _State(**{**state, "kimg": list(state["kimg"]), "values": list(state["values"])})


def _judge(state: _State, trend: Trend, config: PlateauConfig) -> Reason:
    """Names the outcome of a usable evaluation."""
    if state.diverging >= config.divergence_hold:
        return "diverged"
    if trend.gain is None:
        return "waiting"
    if not trend.flat:
        return "improving"
    if state.diverging:
        return "rising"
    if state.held < config.hold:
        return "flat"
    kimg = state.kimg[-1]
    return "plateau" if kimg >= config.min_kimg else "min_kimg"


def _decision(state: _State, trend: Trend, value: float | None, reason: Reason) -> Decision:
    assert state.last_kimg is not None
    return Decision(
        kimg=state.last_kimg,
        value=value,
        stop=reason in _STOPS,
        reason=reason,
        gain=trend.gain,
        threshold=trend.threshold,
        noise=trend.noise,
        window=trend.window,
        held=state.held,
        best_kimg=state.best_kimg,
        best_value=state.best_value,
    )
