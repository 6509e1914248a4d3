"""Several processes that each change one file for a moment: one after the other, so that nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sgxl_t.files.lock import LockedError, lock_beside, locked

WAIT_SECONDS = 120.0
"""Longest wait for others; a change takes far less than a second."""
_PAUSE = 0.05


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """A block in which no other process that asks for its turn at `path` changes that file.

    LockedError, a ValueError in one sentence, where another process does not come to an end; OSError where
    nothing can be written beside the file.
    """
    latest = time.monotonic() + WAIT_SECONDS
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(
                    locked(lock_beside(path), f"{path} is being written", "wait, or name another file")
                )
                break
            except LockedError:
                if time.monotonic() > latest:
                    raise
                time.sleep(_PAUSE)
        yield
