"""Notices that a run no longer goes on: names the process that hangs, shows where it stands, ends the run."""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from sgxl_t.files.terminal import say
from sgxl_t.training.parallel.exit_codes import HANG

LONG = 12
"""Work that takes long, such as metrics, has so many times the minutes of an update."""
POLL = 5.0
"""Seconds between two looks at the others, at most."""
DUMP = 10.0
"""Seconds to write down the stacks, on a disk that may hang as well."""


@dataclass(frozen=True)
class Beat:
    """What one process does. count: beats so far; all processes have the same ones in the same order."""

    count: int = 0
    doing: str = "starting"
    long: bool = True


class Watchdog:
    """A thread beside the training loop of each process; the processes tell each other by the group's store.

    The store is served by a thread of its own, so it answers while any training loop hangs. Clocks are not
    compared: each process notes when it has seen a beat of another for the first time.
    """

    def __init__(self, folder: Path, minutes: float, *, rank: int = 0, world_size: int = 1) -> None:
        """minutes: without a beat, after which the run has hung. folder: for the stacks."""
        self.folder, self.minutes = folder, minutes
        self.rank, self.world_size = rank, world_size
        self.poll = min(POLL, minutes * 60 / 10)
        now = time.monotonic()
        self._beats = {number: Beat() for number in range(world_size)}
        self._since = dict.fromkeys(range(world_size), now)
        self._answered = now
        self._called = False
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Watchdog:
        global _current
        if self.world_size > 1:
            _wait_for_each_other(timedelta(minutes=2 * LONG * self.minutes))
            self._threads.append(threading.Thread(target=self._talk, args=(_store(),), daemon=True))
        self._threads.append(threading.Thread(target=self._watch, daemon=True))
        for thread in self._threads:
            thread.start()
        _current = self
        return self

    def __exit__(self, *_: object) -> None:
        global _current
        _current = None
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=DUMP)

    def beat(self, doing: str, *, long: bool) -> None:
        """This process goes on, and does this now."""
        self._note(self.rank, Beat(self._beats[self.rank].count + 1, doing, long))

    def behind(self) -> list[int]:
        """Ranks that hang; empty while the run goes on.

        A process that waits for another has had more beats than that one, so the ones with the fewest hang.
        """
        fewest = min(beat.count for beat in self._beats.values())
        ranks = [rank for rank, beat in self._beats.items() if beat.count == fewest]
        return ranks if all(self._overdue(rank) for rank in ranks) else []

    def sentence(self, behind: list[int]) -> str:
        """What the user reads."""
        last = [f"rank {rank} was last at: {beat.doing}" for rank, beat in sorted(self._beats.items())]
        if self.world_size == 1:
            who, last = "this process hangs", [f"it was last at: {self._beats[0].doing}"]
        elif len(behind) == self.world_size:
            who = f"all {self.world_size} processes hang at the same place"
        else:
            names = " and ".join(f"rank {rank}" for rank in behind)
            who = f"{names} of {self.world_size} processes hang{'s' if len(behind) == 1 else ''}"
        return (
            f"{who}, there was no progress for {self.minutes:g} minutes ({'; '.join(last)}); "
            f"{self.folder}/hang-rank*.txt show the stacks, and the same command goes on from the newest "
            "checkpoint"
        )

    def _speaks(self, behind: list[int]) -> bool:
        """Rank 0 does, for all; where it hangs itself, the others."""
        if 0 in behind and len(behind) < self.world_size:
            return self.rank not in behind
        return self.rank == 0

    def _overdue(self, rank: int) -> bool:
        limit = self.minutes * 60 * (LONG if self._beats[rank].long else 1)
        return time.monotonic() - self._since[rank] > limit

    def _note(self, rank: int, beat: Beat) -> None:
        if beat != self._beats[rank]:
            self._since[rank] = time.monotonic()
            self._beats[rank] = beat

    def _watch(self) -> None:
        while not self._stop.wait(self.poll):
            if behind := self.behind():
                self._end(self.sentence(behind), speaks=self._speaks(behind))
            elif self._called:
                self._end("", speaks=False)
            elif time.monotonic() - self._answered > self.minutes * 60 and self.world_size > 1:
                lost = "the process that the others meet at, rank 0 or the launcher, does not answer for"
                self._end(f"{lost} {self.minutes:g} minutes: start the same command again", speaks=True)

    def _talk(self, store: Any) -> None:
        """Tells the others what this process does, and hears of them."""
        told: Beat | None = None
        while not self._stop.wait(self.poll / 2):
            try:
                if told != self._beats[self.rank]:
                    told = self._beats[self.rank]
                    store.set(_key(self.rank), json.dumps(asdict(told)))
                for rank in range(self.world_size):
                    if rank != self.rank and store.check([_key(rank)]):
                        self._note(rank, Beat(**json.loads(store.get(_key(rank)))))
                self._called = store.check([_key("end")])
                self._answered = time.monotonic()
            except RuntimeError:  # of the store: whether it stays so is the watching thread's to judge
                continue

    def _end(self, sentence: str, *, speaks: bool) -> None:
        """Ends this process and calls on the others to do so, after each has written down its stacks."""
        if speaks:
            say(f"error: {sentence}", err=True)
        for work in (self._call, self._dump):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            thread.join(timeout=DUMP)
        time.sleep(2 * self.poll)  # a launcher ends all processes as soon as one has ended
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(HANG)

    def _call(self) -> None:
        if self.world_size > 1:
            with suppress(RuntimeError):
                _store().set(_key("end"), "1")

    def _dump(self) -> None:
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / f"hang-rank{self.rank}.txt").open("w") as file:
                file.write(f"rank {self.rank} was last at: {self._beats[self.rank].doing}\n\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)


_current: Watchdog | None = None
"""One for each process, like its rank, so that every part of training can speak to it."""


def beat(doing: str, *, long: bool = False) -> None:
    """Tells the watchdog, where there is one, that this process goes on and what it does now.

    All processes say the same things in the same order. long: it may take LONG times as long as an update.
    """
    if _current is not None:
        _current.beat(doing, long=long)


@contextmanager
def watched(folder: Path, minutes: float | None, *, rank: int, world_size: int) -> Iterator[None]:
    """A block that is watched; minutes: None watches nothing."""
    if minutes is None:
        yield
        return
    with Watchdog(folder, minutes, rank=rank, world_size=world_size):
        yield


def _key(name: object) -> str:
    return f"sgxl_t/watchdog/{name}"


def _store() -> Any:
    """The process group's store for one more thread: a connection of its own."""
    return torch.distributed.distributed_c10d._get_default_store().clone()


def _wait_for_each_other(limit: timedelta) -> None:
    """Lets processes wait longer than torch's 10 to 30 minutes, which metrics on the main one may take."""
    group = torch.distributed.distributed_c10d
    name = "set_timeout" if hasattr(group, "set_timeout") else "_set_pg_timeout"  # before torch 2.15
    getattr(group, name)(limit)
