"""A look at the headers of shards before they are read: their labels, and files that are not used.

Of sets of up to some hundred thousand samples all are counted. Of larger sets the beginning, the end and
parts between of many shards are looked at, which works for samples in any order; messages call that a survey.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import BinaryIO

from tqdm import tqdm

from sgxl_t.datasets.decode import Bounds
from sgxl_t.datasets.images.annotations import Label
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.datasets.shards.tar.headers import BLOCK
from sgxl_t.datasets.shards.tar.samples import Group, groups, load_texts
from sgxl_t.files.regular import open_regular

COUNTED = 300_000
"""Samples of sets with labels that are all counted, in some ten seconds."""
SURVEYED = 20_000
"""Samples of larger sets that are looked at, and of sets without labels."""
WINDOWS, WINDOW_SHARDS = 5, 500
"""Places of a shard that a survey looks at, and shards."""
ESTIMATE = 100
"""Samples by which the number of all is judged."""


@dataclass
class Look:
    """samples: that were looked at. labels: how often each was seen. shards: looked at, of all that are here.
    whole: whether nothing was left out. unused: files that are no part of what is read.
    """

    shards: int
    of: int
    whole: bool
    samples: int = 0
    labels: Counter[Label] = field(default_factory=Counter)
    unused: Rejects = field(default_factory=Rejects)

    def extent(self) -> str:
        """How much was looked at, in words."""
        if self.whole:
            return f"all {self.samples} samples"
        return f"a survey of {self.samples} samples from {self.shards} of {self.of} shards"


def look_at(
    shards: Sequence[str], bounds: Bounds, label_in: Callable[[Group], Label | None], *, labelled: bool
) -> Look:
    """Looks at local shards; those that cannot be read are left out here and reported when they are read.

    labelled: whether the first samples have labels, which are worth counting all samples.
    """
    limit = COUNTED if labelled else SURVEYED
    whole = _estimate(shards, bounds) <= limit
    chosen = list(shards) if whole else _with_ends(shards, WINDOW_SHARDS)
    found = Look(len(chosen), len(shards), whole)
    each = max(8, SURVEYED // (WINDOWS * len(chosen)))
    for shard in tqdm(chosen, desc="looking at shards", unit="shard", delay=2, leave=False):
        try:
            with open_regular(shard) as file:
                starts = [0] if whole else _windows(shard, file, bounds, each)
                for start in starts:
                    read = partial(groups, shard, bounds, Rejects(), lazy=True, unused=found.unused)
                    # Behind a start between samples the first may be the rest of one.
                    first = min(start, 1)
                    for group in islice(read(start=start), first, None if whole else first + each):
                        found.samples += 1
                        label = label_in(load_texts(file, group)) if labelled else None
                        if label is not None:
                            found.labels[label] += 1
        except (RejectedItemError, OSError):
            continue
    return found


def _estimate(shards: Sequence[str], bounds: Bounds) -> float:
    """About how many samples all shards hold, by the size of the first that can be read."""
    total = sum(os.stat(shard).st_size for shard in shards if os.path.exists(shard))
    for shard in shards:
        first = list(_first_starts(shard, bounds))
        if len(first) > 1:
            return total / (first[-1] / (len(first) - 1))
    return len(shards)


def _first_starts(shard: str, bounds: Bounds) -> Iterator[int]:
    try:
        for group in islice(groups(shard, bounds, Rejects(), lazy=True), ESTIMATE):
            yield group["__start__"]
    except RejectedItemError:
        return


def _windows(shard: str, file: BinaryIO, bounds: Bounds, each: int) -> list[int]:
    """Where to begin reading: at the first byte, between, and so that `each` samples end with the shard.

    Headers are looked for from there on, as behind damage; bytes of images are not taken for any.
    """
    size = os.fstat(file.fileno()).st_size
    starts = list(_first_starts(shard, bounds))
    last = max(0, size - int(each * (starts[-1] / (len(starts) - 1) if len(starts) > 1 else size)))
    return sorted({number * last // (WINDOWS - 1) // BLOCK * BLOCK for number in range(WINDOWS)})


def _with_ends(shards: Sequence[str], count: int) -> list[str]:
    """At most `count` of the shards, evenly spaced from the first to the last."""
    if len(shards) <= count:
        return list(shards)
    return [shards[number * (len(shards) - 1) // (count - 1)] for number in range(count)]
