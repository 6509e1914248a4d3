"""Loader processes that are restarted when one dies or hangs, so that no batch is lost or comes twice."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait
from types import FrameType
from typing import Any, Generic, TypeVar

log = logging.getLogger("sgxl_t")

RESTARTS = 3
"""How often the processes of one loader are restarted."""
HUNG_SECONDS = 600
"""A process that needs longer for one batch counts as hung; the first one of a stream also fills its shuffle
buffer."""

T = TypeVar("T")


class Restarting(ABC, Generic[T]):
    """Base class of batches: the items of loader processes, in order.

    When a process is killed, or delivers nothing for HUNG_SECONDS, all of them are restarted behind the last
    item that arrived; ValueError when that happens for the fourth time. Torch reports the death of a process
    by an exception from a signal handler, wherever the main thread is, such as in an optimiser's step; here
    it waits until the next item is asked for.
    """

    def __init__(self) -> None:
        """Starts the processes; a subclass sets its fields before."""
        self._restarts = 0
        self._items: Iterator[T] | None = None
        self._processes: list[Any] = []
        self._waiting_since: float | None = None
        self._hung = False
        self._start()

    @abstractmethod
    def _open(self) -> Iterable[T]:
        """A DataLoader, or items without processes, that go on behind the last item delivered."""

    def _next(self) -> T:
        while self._items is not None:
            try:
                try:
                    _deaths.told, self._waiting_since = True, time.monotonic()
                    reason = self._death()
                    if reason is None:
                        return next(self._items)
                finally:  # within the other: the death of a second process may interrupt this line
                    _deaths.told, self._waiting_since = False, None
            except (RuntimeError, EOFError, ConnectionError) as error:
                # The last two: it ended while it was handing over the memory of a batch.
                if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker ("):
                    raise
                reason = self._death(patience=1) or "ended by itself"
            self._replace(reason)
        raise StopIteration

    def close(self) -> None:
        """Ends the processes, also those that hang."""
        self._items = None
        for process in self._processes:
            if process.is_alive():
                process.kill()
                process.join(timeout=1)
        self._processes = []

    def _start(self) -> None:
        self._hung = False
        before = multiprocessing.active_children()
        self._items = iter(self._open())
        self._processes = [child for child in multiprocessing.active_children() if child not in before]
        _deaths.hold_back()
        if self._processes:
            threading.Thread(target=_kill_the_hung, args=(weakref.ref(self),), daemon=True).start()

    def _death(self, patience: float = 0) -> str | None:
        """How a process died, after waiting so many seconds for one to; None while all are at work."""
        ended = wait([process.sentinel for process in self._processes], patience)
        processes = [process for process in self._processes if process.sentinel in ended]
        if not processes:
            return None
        if self._hung:
            return f"gave nothing for {HUNG_SECONDS} seconds"
        processes[0].join()  # its pipes close a moment before it has an exit code
        code = processes[0].exitcode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else "ended by itself"

    def _replace(self, reason: str) -> None:
        self.close()
        if self._restarts == RESTARTS:
            raise ValueError(
                f"loader processes failed {RESTARTS + 1} times (the last {reason}): look for a lack of "
                "memory or a disk that does not answer, or set data.num_workers to 0"
            )
        self._restarts += 1
        log.warning(
            "a loader process %s; all start anew and go on with the very next picture (time %d of %d)",
            reason,
            self._restarts,
            RESTARTS,
        )
        self._start()


def loader_options(num_workers: int, ahead: int) -> dict[str, Any]:
    """Arguments of a DataLoader for Restarting, which hands items on as they are.

    num_workers: processes, at least one. ahead: items that they hold ready together, at least two each.
    """
    return {
        "num_workers": num_workers,
        "prefetch_factor": max(2, -(-ahead // num_workers)),
        "collate_fn": _as_it_is,
        "worker_init_fn": _leave_ctrl_c,
    }


def _kill_the_hung(reference: weakref.ref[Restarting[Any]]) -> None:
    """Kills the processes of one start when they hang. Torch's own time limit does not hold while a process
    that has stopped is handing over the memory of a batch."""
    loader = reference()
    processes = loader._processes if loader else []
    while loader is not None and loader._processes is processes:
        since = loader._waiting_since
        if since is not None and time.monotonic() - since > HUNG_SECONDS:
            loader._hung = True
            for process in processes:
                process.kill()
            return
        loader = None  # nobody else may need it any more
        time.sleep(HUNG_SECONDS / 10)
        loader = reference()


class _Deaths:
    """Replaces torch's handler of SIGCHLD, which raises in the main thread when a process has died."""

    def __init__(self) -> None:
        self.told = False
        self._torch: Any = None

    def hold_back(self) -> None:
        """Replaces torch's handler; does nothing outside the main thread, which alone has handlers."""
        if threading.current_thread() is not threading.main_thread():
            return
        current = signal.getsignal(signal.SIGCHLD)
        if callable(current) and current != self._handle:
            self._torch = current
            signal.signal(signal.SIGCHLD, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.told:
            self._torch(number, frame)


_deaths = _Deaths()
"""One for each process, like its signal handlers."""


def _as_it_is(item: Any) -> Any:
    return item


def _leave_ctrl_c(_worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal; only the training process decides what to do about it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
