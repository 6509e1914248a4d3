"""The price of fresh memory: what the operating system takes of a run, and how to do without."""

from __future__ import annotations

import ctypes
import resource

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Numbers of glibc's mallopt."""


def keep_memory() -> None:
    """From now on this process gives no memory back, so that what it frees is fresh to no later call.

    Otherwise every large tensor is mapped anew, and the system clears its pages one by one, which on a
    virtual machine may take longer than the work on them. ValueError where the C library cannot.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not (mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, -1)):
        raise ValueError("--keep-memory needs glibc, which this system has not: leave it out")


class SystemTime:
    """Adds up the CPU time of this process, and the operating system's part of it."""

    def __init__(self) -> None:
        self._total = self._system = 0.0

    def __enter__(self) -> None:
        self._before = resource.getrusage(resource.RUSAGE_SELF)

    def __exit__(self, *_: object) -> None:
        now = resource.getrusage(resource.RUSAGE_SELF)
        system = now.ru_stime - self._before.ru_stime
        self._system += system
        self._total += now.ru_utime - self._before.ru_utime + system

    @property
    def share(self) -> float:
        """The system's part, from 0 to 1."""
        return self._system / self._total if self._total else 0.0
