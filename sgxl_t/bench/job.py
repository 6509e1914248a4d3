"""One workload in one mode: its sides are made, compared and timed in common turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from sgxl_t.bench.against.other import OtherRunner, OtherVersion
from sgxl_t.bench.allocator import SystemTime
from sgxl_t.bench.cases.cases import DTYPES, Case
from sgxl_t.bench.cases.swap import reference_operators
from sgxl_t.bench.equality import LIMITS, largest_error, relative_error
from sgxl_t.bench.memory import Memory
from sgxl_t.bench.request import BenchRequest
from sgxl_t.bench.runner import Runner
from sgxl_t.bench.timing import alternate, loops_for, timed
from sgxl_t.bench.variants import obstacle, runner_class, variant_backend

SHORTEST, SHORTEST_QUICK, SHORTEST_CUDA = 60.0, 15.0, 20.0
"""Milliseconds of one turn, at least; a GPU's events are exact."""
LONG = 5
"""Turns that a run under the eyes of the profiler lasts when it needs no trial before its turns."""


@dataclass
class Side:
    """A runner that has run: its memory, its first time in milliseconds, its error, later its times."""

    runner: Runner | OtherRunner
    dtype: str
    memory: Memory
    variant: str = ""
    first_ms: float = 0.0
    error: float = 0.0
    loops: int = 0
    times: Sequence[float] = ()
    system: SystemTime = field(default_factory=SystemTime)

    def turn(self) -> float:
        """Milliseconds of one run."""
        with self.system:
            return self.runner.time(self.loops)

    @property
    def system_share(self) -> float | None:
        """Of the turns; None for another process and for a GPU."""
        own = isinstance(self.runner, Runner) and self.runner.device.type == "cpu"
        return self.system.share if own else None


class Job:
    """A case with its batch and mode on one device. `missing` says why a row is not there."""

    def __init__(
        self, case: Case, batch: int, mode: str, request: BenchRequest, other: OtherVersion | None, clock: str
    ) -> None:
        self.case, self.batch, self.mode = case, batch, mode
        self.request, self.other, self.clock = request, other, clock
        self.label = f"{case.name} batch {batch} {mode}"
        self.work = case.build(batch, torch.device(request.device))
        self.missing: list[str] = []
        self.references: dict[str, Side] = {}

    def measure(self, dtypes: Sequence[str]) -> list[Side]:
        """Our sides that agree with the reference, timed; `references` holds those by dtype."""
        hide = None if self.request.progress else True  # None hides it where no terminal shows it
        with tqdm(desc=self.label, unit="run", disable=hide, leave=False) as bar:
            expected = self._refer(dtypes, bar)
            sides = []
            for dtype in dtypes:
                for variant in self.request.variants:
                    side = self._candidate(dtype, variant, expected[dtype], bar)
                    sides += [] if side is None else [side]
            del expected
            wanted = {self.request.reference_dtype(side.dtype) for side in sides}
            self._take_turns([self.references[dtype] for dtype in sorted(wanted)] + sides, bar)
        return sides

    def _refer(self, dtypes: Sequence[str], bar: tqdm) -> dict[str, list[Tensor]]:
        """Runs the references; returns the outputs that rows of each dtype must agree with."""
        outputs: dict[str, list[Tensor]] = {}
        plain = self.other is None
        needed = [self.request.reference_dtype(dtype) for dtype in dtypes]
        for dtype in dict.fromkeys(["float32", *needed] if plain else needed):
            runner = self._reference(dtype)
            outputs[dtype], memory = runner.memory()
            self.references[dtype] = Side(runner, dtype, memory)
            bar.update()
        return {dtype: outputs["float32" if plain else dtype] for dtype in dtypes}

    def _reference(self, dtype: str) -> Runner | OtherRunner:
        if self.other is None:
            return Runner(self.work, self.mode, DTYPES[dtype], self.clock, reference_operators)
        return OtherRunner(
            self.other,
            name=self.case.name,
            batch=self.batch,
            mode=self.mode,
            dtype=dtype,
            clock=self.clock,
            quick=self.request.quick,
            device=self.request.device,
        )

    def _candidate(self, dtype: str, variant: str, expected: list[Tensor], bar: tqdm) -> Side | None:
        """One of our backends, once its results agree with those expected; otherwise None and a sentence."""
        kind = runner_class(variant, self.mode, dtype)
        if kind is None:
            return None
        backend = variant_backend(variant, always=self.case.operator)
        runner = kind(self.work, self.mode, DTYPES[dtype], self.clock, backend)
        label = f"{self.label} {dtype} {variant}"
        try:
            reason = obstacle(variant, runner.device, runner.dtype)
            if reason is not None:
                raise RuntimeError(reason)
            first = timed(runner.run, self.clock)
            bar.update()
            outputs, memory = runner.memory()
            bar.update()
        except RuntimeError as failure:
            self.missing.append(f"{label}: no row, {first_line(failure)}")
            return None
        largest = self.case.operator and self.mode == "forward"
        error = largest_error(outputs, expected) if largest else relative_error(outputs, expected)
        limit = LIMITS[dtype, self.mode]
        if not error <= limit:
            self.missing.append(
                f"{label}: no row, it differs from the reference by {error:.1e}, more than {limit:.0e}"
            )
            return None
        return Side(runner, dtype, memory, variant, first, error)

    def _take_turns(self, sides: Sequence[Side], bar: tqdm) -> None:
        """Times all sides."""
        shortest = shortest_turn(self.request, self.clock)
        for side in sides:
            if self.clock != "cuda" and side.runner.watched_ms > LONG * shortest:
                side.loops = 1  # it has run, and surely fills a turn
        unknown = [side for side in sides if not side.loops]
        bar.total = bar.n + len(unknown) + len(sides) * self.request.repeats
        for side in unknown:
            side.runner.warm_up()
            side.loops = loops_for(side.runner.time(), shortest)
            bar.update()
        times = alternate([side.turn for side in sides], self.request.repeats, bar.update)
        for side, taken in zip(sides, times, strict=True):
            side.times = taken


def shortest_turn(request: BenchRequest, clock: str) -> float:
    """Milliseconds that a turn has to last, so that the clock's steps do not show."""
    if request.quick:
        return SHORTEST_QUICK
    return SHORTEST_CUDA if clock == "cuda" else SHORTEST


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]
