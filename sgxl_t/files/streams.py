"""Output that may get lost without ending the work: logs into a closed pipe, a lost terminal, a full disk."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_DEAD = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ECONNRESET}
"""What the system says where nobody will read any more: the reader of a pipe, or the terminal, has gone."""


class _Forgiving:
    """A text stream whose writes never fail."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes the text, or loses it."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Hands on what was written, or loses it."""
        self._try(self._stream.flush)

    def _try(self, work: Any) -> None:
        try:
            work()
        except OSError as error:
            if error.errno in _DEAD:
                self._let_go()
        except ValueError:  # it has been closed
            return

    def finish(self) -> None:
        """Leaves nothing for Python to write when it ends, which would change the exit code if it failed."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._let_go()

    def _let_go(self) -> None:
        """From now on everything goes nowhere, also what libraries write past Python, and the last flush."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def forgiving_streams() -> Iterator[None]:
    """Within the block writing to stdout or stderr never fails, so that a log nobody reads ends no work."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:  # for a process that was started without streams
        forgiving = [_Forgiving(nowhere if stream is None else stream) for stream in before]
        sys.stdout, sys.stderr = forgiving
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            for stream in forgiving:
                stream.finish()
