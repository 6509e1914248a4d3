"""Loader processes that start anew when one of them dies or hangs, with nothing lost and nothing twice."""

from __future__ import annotations

import logging
import multiprocessing
import re
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Generic, TypeVar

log = logging.getLogger("sgxl_t")

RESTARTS = 3
"""Times that the processes of one loader start anew."""
HUNG_SECONDS = 600
"""Time for one batch, beyond which a process hangs; the first of a stream fills its shuffle buffer too."""

T = TypeVar("T")


class Restarting(ABC, Generic[T]):
    """What loader processes give, in order; a base class of batches.

    Where one of them is killed, or gives nothing for HUNG_SECONDS, all start anew; ValueError when that
    happens for the fourth time. Torch raises a death out of a signal handler wherever the main thread is,
    such as amid an optimiser's step; here it waits until the next item is asked for.
    """

    def __init__(self) -> None:
        """Starts the processes: a subclass has its fields ready before."""
        self._restarts = 0
        self._items: Iterator[T] | None = None
        self._processes: list[Any] = []
        self._start()

    @abstractmethod
    def _open(self) -> Iterable[T]:
        """A DataLoader, or items without processes, that go on behind the last item that was delivered."""

    def _next(self) -> T:
        while self._items is not None:
            try:
                return _deaths.told_during(self._items)
            except RuntimeError as error:
                reason = _reason(error)
                if reason is None:
                    raise
            self._replace(reason)
        raise StopIteration

    def close(self) -> None:
        """Ends the processes, also those that hang."""
        self._items = None
        for process in self._processes:
            if process.is_alive():
                process.kill()
                process.join(timeout=1)

    def _start(self) -> None:
        before = multiprocessing.active_children()
        self._items = iter(self._open())
        self._processes = [child for child in multiprocessing.active_children() if child not in before]
        _deaths.hold_back()

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


def loader_options() -> dict[str, Any]:
    """Arguments of a DataLoader that Restarting looks after and that hands items on as they are."""
    return {"collate_fn": _as_it_is, "timeout": HUNG_SECONDS, "worker_init_fn": _leave_ctrl_c}


class _Deaths:
    """Stands before torch's handler of SIGCHLD, which raises in the main thread when a process has died."""

    def __init__(self) -> None:
        self._torch: Any = None
        self._listening = self._pending = False

    def hold_back(self) -> None:
        """Takes the place of torch's handler; without effect outside the main thread, which has none."""
        if threading.current_thread() is not threading.main_thread():
            return
        current = signal.getsignal(signal.SIGCHLD)
        if callable(current) and current != self._handle:
            self._torch = current
            signal.signal(signal.SIGCHLD, self._handle)

    def told_during(self, items: Iterator[T]) -> T:
        """The next item; RuntimeError when a process has died since the one before, or dies meanwhile."""
        try:
            self._listening = True
            if self._pending:
                self._pending = False
                self._torch(signal.SIGCHLD, None)
            return next(items)
        finally:
            self._listening = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._listening:
            self._torch(number, frame)
        else:
            self._pending = True


_deaths = _Deaths()
"""One for each process, like its signal handlers."""


def _reason(error: BaseException | None) -> str | None:
    """What happened to a loader process; None for errors of any other kind."""
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    if texts[0].startswith("DataLoader timed out"):
        return f"gave nothing for {HUNG_SECONDS} seconds"
    if not texts[0].startswith("DataLoader worker ("):
        return None
    named = re.search(r"is killed by signal: ([^.\n]+)", "\n".join(texts))
    return f"was ended by a signal: {named[1].strip()}" if named else "ended unexpectedly"


def _as_it_is(item: Any) -> Any:
    return item


def _leave_ctrl_c(_worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal; what follows of it is the training process's to decide."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
