"""When time asks for a preview of a run, however few images it has seen."""

from __future__ import annotations

import time

FIRST_MINUTES = 0.5
"""After the start of training, so that something can be looked at within its first minute."""


class PreviewClock:
    """Time since the last snapshot or preview."""

    def __init__(self, minutes: float | None) -> None:
        """minutes: between previews; None asks for none."""
        self._minutes = minutes
        self._next = time.monotonic() + 60 * min(FIRST_MINUTES, minutes or FIRST_MINUTES)

    def start(self) -> None:
        """Counts the minutes from now."""
        self._next = time.monotonic() + 60 * (self._minutes or 0)

    def is_due(self) -> bool:
        """True once when the time is over; it then starts anew, as processes hear of it an update later."""
        due = self._minutes is not None and time.monotonic() >= self._next
        if due:
            self.start()
        return due
