"""What was left out of a data set, and why: counted by reason, listed in a file, bounded by a share."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sgxl_t.files.terminal import visible
from sgxl_t.files.whole import write_whole

Item = tuple[str, str, str]
"""Name, reason and detail of one rejected item."""

FILTERED = "left out by the filter"
NAMES_TOLD = 3
"""Names that a line of the summary gives as examples."""


class RejectedItemError(ValueError):
    """One image, caption or label that cannot be used; `reason` is the same for all of its kind."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def rejected(reason: str, error: Exception) -> RejectedItemError:
    """An item that cannot be used because of an error of another library."""
    return RejectedItemError(reason, str(error) or type(error).__name__)


@dataclass
class Unused:
    """Things of one kind that were found and not used: how many, and the first names as examples."""

    count: int = 0
    names: list[str] = field(default_factory=list)


class FilteredItemError(RejectedItemError):
    """One good item that the filter leaves out: counted among the notes, not among the rejects."""

    def __init__(self) -> None:
        super().__init__(FILTERED)


@dataclass
class Rejects:
    """The list of rejected items of one source.

    limit: largest share of rejected items among all items, in [0, 1]; above it `check` raises ValueError.
    items: (name, reason, detail) in the order found. notes: counts of things that were not rejected:
    repaired (for example captions cut at the length limit), or left out by the filter.
    unused: what was found beside the images and not used, by reason, such as files of other kinds, labels
    and captions that no rule takes; it does not count against the limit.
    """

    limit: float = 0.1
    items: list[Item] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    unused: dict[str, Unused] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _noted: set[int] = field(default_factory=set)
    _log: Path | None = None
    _told: int = 0
    _told_notes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if not 0 <= self.limit <= 1:
            raise ValueError(f"reject_limit={self.limit} is out of range: use a number from 0 to 1")

    def __len__(self) -> int:
        return len(self.items)

    def add(self, name: str, error: RejectedItemError) -> None:
        """Count one rejected item; the same name counts once. Filtered items only add to the notes."""
        if isinstance(error, FilteredItemError):
            self.note(FILTERED)
            return
        if name in self._names:
            return
        self._names.add(name)
        self.items.append((name, error.reason, error.detail))
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as out:
                out.write(_line(*self.items[-1]))

    def note(self, what: str, name: str | None = None) -> None:
        """Count something that was repaired and kept; with the name of the item, once for that item."""
        if name is not None:
            if hash((what, name)) in self._noted:
                return
            self._noted.add(hash((what, name)))
        self.notes[what] += 1

    def pass_over(self, reason: str, name: str) -> None:
        """Count something found and not used; reason: a few words such as "file of no known kind"."""
        unused = self.unused.setdefault(reason, Unused())
        unused.count += 1
        if len(unused.names) < NAMES_TOLD:
            unused.names.append(name)

    def summary(self) -> list[str]:
        """All that was rejected, not used or repaired, a line each, in the same words everywhere.

        `prepare`, `info`, `evaluate` and the start of a run print these lines.
        """
        lines = []
        for reason, count in self.by_reason().items():
            names = [name for name, why, _ in self.items if why == reason][:NAMES_TOLD]
            lines.append(f"rejected: {count} x {reason} ({_examples(names, count)})")
        for reason, unused in self.unused.items():
            lines.append(f"not used: {unused.count} x {reason} ({_examples(unused.names, unused.count)})")
        lines.extend(f"note: {count} x {what}" for what, count in self.notes.items())
        return lines

    def by_reason(self) -> dict[str, int]:
        """Rejected items per reason, most frequent first."""
        return dict(Counter(reason for _, reason, _ in self.items).most_common())

    def check(self, total: int) -> None:
        """Raise ValueError when more than `limit` of `total` items (good and bad) were rejected."""
        if total and len(self.items) > self.limit * total:
            name, reason, _ = self.items[0]
            raise ValueError(
                f"{len(self.items)} of {total} items were rejected (first: {name}: {reason}), above the "
                f"limit of {self.limit:.0%}: repair the data or raise the reject limit"
            )

    def write(self, path: str | Path) -> None:
        """Write the list as JSON lines ({"name", "reason", "detail"}) and append what is found later.

        The file is there when something has been rejected; an older one is replaced.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.items:
            write_whole(path, "".join(_line(*item) for item in self.items))
        else:
            path.unlink(missing_ok=True)
        self._log = path

    def leave_writing(self) -> None:
        """For a loader process: from here on `news` reports what is found, and the main process writes it."""
        self._log = None
        self.news()

    def news(self) -> tuple[list[Item], Counter[str]]:
        """Items and counts of notes that have come up since the last call."""
        items, notes = self.items[self._told :], self.notes - self._told_notes
        self._told, self._told_notes = len(self.items), Counter(self.notes)
        return items, notes

    def merge(self, items: list[Item], notes: Counter[str]) -> None:
        """Take over the news of a loader process."""
        for name, reason, detail in items:
            self.add(name, RejectedItemError(reason, detail))
        self.notes.update(notes)


def _examples(names: list[str], count: int) -> str:
    return ", ".join(map(visible, names)) + (", ..." if count > len(names) else "")


def _line(name: str, reason: str, detail: str) -> str:
    return json.dumps({"name": name, "reason": reason, "detail": detail}) + "\n"
