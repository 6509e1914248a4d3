"""What one reader of shards counts, and when it gives up."""

from __future__ import annotations

from sgxl_t.datasets.rejects import FilteredItemError, RejectedItemError, Rejects
from sgxl_t.datasets.shards.tar.opening import shard_name

MIN_SEEN = 100
"""Samples after which the share of rejects is judged while streaming."""
MIN_SHARDS = 10
"""Shards after which the share of those that cannot be read is judged."""
MAX_FILTERED = 10_000
"""Samples a filter may leave out before the first that it keeps."""


class ReaderCounts:
    """Counts of one reader. read: samples read. used: samples that became images. rejects: what this reader
    rejects; the methods pass it on to those of the source, which others fill as well.

    All methods raise ValueError when the data is not worth going on: too large a share of samples or shards
    is broken, or nothing is left.
    """

    def __init__(self, rejects: Rejects, expression: str | None, shards: int) -> None:
        self.rejects, self._source = Rejects(rejects.limit), rejects
        self.expression, self.shards = expression, shards
        self.read = self.used = self.filtered = 0
        self._tried: set[str] = set()
        self._failed: set[str] = set()
        self._used_before = self._barren = 0

    def tried(self, shard: str) -> None:
        """A shard is about to be read."""
        self._tried.add(shard)

    def failed(self, shard: str, error: RejectedItemError) -> None:
        """A shard could not be read to its end."""
        self.rejects.add(shard_name(shard), error)
        self._pass_on()
        self._failed.add(shard)
        if len(self._failed) > self.rejects.limit * max(len(self._tried), MIN_SHARDS):
            raise ValueError(
                f"{len(self._failed)} of {len(self._tried)} shards cannot be read (last: {shard_name(shard)}"
                f": {error}), above the limit of {self.rejects.limit:.0%}: repair them, or raise the reject "
                "limit"
            )

    def passed_over(self, name: str, error: RejectedItemError) -> None:
        """A sample was rejected or filtered."""
        self.rejects.add(name, error)
        if not isinstance(error, FilteredItemError):
            self.check()
            return
        self._pass_on()
        self.filtered += 1
        if self.used == 0 and self.filtered >= MAX_FILTERED:
            raise ValueError(
                f"data.filter={self.expression!r} keeps none of {self.filtered} samples: loosen it"
            )

    def check(self) -> None:
        """The share of rejects among what this reader has read."""
        self._pass_on()
        self.rejects.check(max(self.read, MIN_SEEN))

    def end_epoch(self, parts: int) -> None:
        """The reader has been through its share; with many readers, some epochs hold nothing for it."""
        self._barren = self._barren + 1 if self.used == self._used_before else 0
        self._used_before = self.used
        if self._barren > parts and self.filtered == 0:
            names = ", ".join(sorted(map(shard_name, self._tried))[:3])
            raise ValueError(f"no sample of {self.shards} shards can be used ({names}): make them again")

    def _pass_on(self) -> None:
        self._source.merge(*self.rejects.news())
