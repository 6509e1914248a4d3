"""The source behind shards: an endless stream for training, addresses for everything else."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

from sgxl_t.datasets.base import CONTENT_VERSION, START, Mark, Sample, SourceOptions, StreamSource
from sgxl_t.datasets.captions import choose, clean_caption
from sgxl_t.datasets.decode import Bounds, decode_image
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.datasets.shards.addresses import Addresses, evenly
from sgxl_t.datasets.shards.counts import ReaderCounts
from sgxl_t.datasets.shards.discover import TYPED, Consent, Subset
from sgxl_t.datasets.shards.fields import Captions, FieldFilter, tables_beside
from sgxl_t.datasets.shards.filters import known_names
from sgxl_t.datasets.shards.labels import Classes, find_classes, label_in
from sgxl_t.datasets.shards.order import Order, ShardOrder, Unit
from sgxl_t.datasets.shards.tar.opening import is_local, shard_name
from sgxl_t.datasets.shards.tar.samples import (
    Group,
    group_name,
    groups,
    has_broken_json,
    image_ending,
    json_of,
    load,
)
from sgxl_t.files.content import file_hashes, short_hash
from sgxl_t.files.terminal import visible
from sgxl_t.ops.random import python_rng

PROBE_SAMPLES = 16
PROBE_SHARDS = 5
"""URLs that are tried before a set counts as out of reach."""


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """How shards are read.

    order: `epochs`, `resample` or `auto` (see ShardOrder).
    shuffle_samples: encoded samples that one reader keeps in memory to draw from.
    caption_fields: `txt` and fields of the json; empty takes `txt`, else "caption".
    filter: expression that samples must meet (see Filter).
    fast_jpeg: decode JPEGs at reduced size in the stream.
    consent: whether commands may run (see find_shards).
    """

    order: Order = "auto"
    shuffle_samples: int = 1000
    caption_fields: tuple[str, ...] = ()
    filter: str | None = None
    fast_jpeg: bool = True
    consent: Consent = TYPED


class ShardSource(StreamSource):
    """Samples of tar shards, streamed for training and addressed through a lazily made index elsewhere.

    Captions come from `txt` or fields of `json`, labels from `cls` or a field such as "label" of `json`.
    The classes are those of a class file beside the shards, or else those that the samples show when their
    headers are looked at. Broken shards and samples are skipped and counted. By address, JPEGs are decoded at
    full size and the first of several captions is taken.

    classes: names and where they come from; None without labels.
    """

    def __init__(
        self,
        reference: str,
        subsets: Sequence[Subset],
        how: SourceOptions,
        options: ShardOptions | None = None,
    ) -> None:
        """The subsets are those of a split already: how.split does not count."""
        self.reference, self.options = reference, options or ShardOptions()
        self.bounds, rejects = how.bounds, how.rejects
        if self.options.shuffle_samples < 1:
            raise ValueError(f"data.shuffle_samples={self.options.shuffle_samples}: use 1 or more")
        self.order = ShardOrder(subsets, self.options.order)
        self.shards = self.order.shards
        self.captions = Captions(self.options.caption_fields)
        chosen = self.options.filter
        self.filter = FieldFilter(chosen, self.bounds) if chosen else None
        local = [shard for shard in self.shards if is_local(shard)]
        first = _probe(reference, self.shards, self.bounds, rejects, unused=None if local else rejects)
        has_captions = self._have_captions(first)
        found = find_classes(reference, local, self.bounds, first, rejects, has_captions=has_captions)
        self.classes = found if isinstance(found, Classes) else None
        super().__init__(
            resolution=how.resolution,
            class_names=self.classes.names if self.classes is not None else None,
            has_captions=has_captions,
            mirror=how.mirror,
            rejects=rejects,
        )
        self.no_labels = None if isinstance(found, Classes) else found
        self.no_captions = self._other_captions(first)
        self.several_captions = any(len(self.captions.kept(group)) > 1 for group in first)
        self.addresses = Addresses(reference, self.shards, self.bounds, self.rejects)
        self._check_fields(first)

    def _have_captions(self, first: list[Group]) -> bool:
        """Whether captions are taken: where fields name them, or half of the images have one."""
        with_image = [group for group in first if image_ending(group) is not None]
        captioned = sum(bool(self.captions.all_of(group)) for group in with_image)
        return captioned > 0 and (bool(self.captions.fields) or 2 * captioned >= len(with_image))

    def _other_captions(self, first: list[Group]) -> str:
        """Counts the captions of the first samples that are not taken; the way to captions, in words."""
        found: dict[str, None] = {}
        for group in first:
            for where in self.captions.left_out(group):
                found[where] = None
                self.rejects.pass_over(
                    f"caption of the first samples in the {where}, which data.caption_fields can name",
                    group_name(group),
                )
        told = f"the first samples have some in the {', '.join(found)}: name it in data.caption_fields, or "
        return (
            f'{told if found else ""}put NAME.txt beside NAME.jpg in the shards or "caption" into NAME.json'
        )

    def _check_fields(self, first: list[Group]) -> None:
        """The fields that captions and filter name must be among those of the first samples."""
        held = sorted({name for group in first for name in json_of(group)})
        if self.options.caption_fields and not self.has_captions:
            raise ValueError(
                f"data.caption_fields={list(self.options.caption_fields)} names no caption of the first "
                f"samples of {self.reference}: use txt or fields of their json "
                f"({', '.join(held[:30]) or 'none'})"
            )
        unknown = self.filter.unknown(first) if self.filter else []
        if unknown and self.filter:
            raise ValueError(
                f"data.filter={self.filter.filter.expression!r} reads {', '.join(unknown)}, which the first "
                f"samples of {self.reference} do not have: use {known_names(held)}, or columns of a parquet "
                "beside the shards"
            )

    def fingerprint(self) -> str:
        """Also over the filter and the caption fields, where given; see `ImageSource.fingerprint`."""
        chosen = [part for part in (self.options.filter, self.options.caption_fields) if part]
        return short_hash(self.resolution, self.mirror, self.class_names, self._content_hash, *chosen)

    @cached_property
    def _content_hash(self) -> str:
        """Over the bytes of local shards and of the tables that a filter reads, and addresses of others."""
        local = [shard for shard in self.shards if is_local(shard)]
        read = [*local, *(map(str, tables_beside(local)) if self.filter else ())]
        hashes = file_hashes(read, name=str(Path(read[0]).parent)) if read else []
        names = [shard_name(shard) if is_local(shard) else shard for shard in self.shards]
        return short_hash(CONTENT_VERSION, *names, *hashes)

    def fingerprint_of_numbered(self) -> str:
        """Of shards behind URLs alone, over the bytes of the samples that are held in memory."""
        if any(map(is_local, self.shards)):
            return self.fingerprint()
        return short_hash(self.fingerprint(), *self.addresses.held_bytes())

    def order_key(self) -> str:
        """Over the shards, their weights, and how they are mixed."""
        weights = [(subset.name, subset.weight) for subset in self.order.subsets]
        return short_hash(self.order.resample, self.options.shuffle_samples, weights, *self.shards)

    # The stream ------------------------------------------------------------------------------------------

    def stream(
        self, *, seed: object, part: int, parts: int, mark: Mark = START
    ) -> Iterator[tuple[Mark, Sample]]:
        """Endless samples for one reader, see StreamSource; shards are mixed by segments."""
        from webdataset.filters import shuffle

        counts, held = self._counts(), self.options.shuffle_samples
        while True:
            segments = self.order.segments(mark.epoch, seed=seed, part=part, parts=parts)
            for number in range(mark.segment, len(segments)):
                key = f"{seed}/{part}/{parts}/{mark.epoch}/{number}"
                # Where samples were taken before, only headers are read until the stream is there again.
                encoded = self._encoded(segments[number], counts, lazy=mark.taken > 0)
                mixed = shuffle(held, initial=held, rng=python_rng(key))(encoded)
                for taken, group in enumerate(mixed, 1):
                    if taken > mark.taken:
                        sample = self._use(group, counts, python_rng(key, taken))
                        if sample is not None:
                            yield Mark(mark.epoch, number, taken), sample
                mark = Mark(mark.epoch, number + 1)
            mark = Mark(mark.epoch + 1)
            counts.end_epoch(parts)

    def _counts(self) -> ReaderCounts:
        return ReaderCounts(self.rejects, self.options.filter, len(self.shards))

    def _encoded(self, units: Iterable[Unit], counts: ReaderCounts, *, lazy: bool = False) -> Iterator[Group]:
        """The samples of the units one after the other."""
        for unit in units:
            # A reader that takes every n-th sample leaves the bytes of the others alone.
            noted = is_local(unit.shard) and (lazy or unit.step > 1)
            counts.tried(unit.shard)
            try:
                found = groups(unit.shard, self.bounds, counts.rejects, lazy=noted)
                for group in islice(found, unit.first, None, unit.step):
                    counts.read += 1
                    yield group if lazy or not noted else load(group)
            except RejectedItemError as error:
                counts.failed(unit.shard, error)
            counts.check()

    def _use(self, group: Group, counts: ReaderCounts, rng: random.Random | None) -> Sample | None:
        """A sample, of the stream where there is an rng; None when it is rejected or filtered."""
        try:
            draft = self.options.fast_jpeg and rng is not None
            sample = self.shown(self.decode(load(group), rng, draft=draft))
        except RejectedItemError as error:
            counts.passed_over(group_name(group), error)
            return None
        counts.used += 1
        if rng is not None and self.mirror and rng.random() < 0.5:
            return Sample(sample.image.flip(-1), sample.label, sample.caption)
        return sample

    def samples(self, indices: Iterable[int] | None = None) -> Iterator[Sample]:
        """One pass over all samples, also those without address; or over the given addresses."""
        if indices is not None:
            yield from super().samples(indices)
            return
        counts = self._counts()
        for group in self._encoded((Unit(shard) for shard in self.shards), counts):
            sample = self._use(group, counts, None)
            if sample is not None:
                yield sample

    # By address ------------------------------------------------------------------------------------------

    def _count(self) -> int:
        return len(self.addresses)

    def _name(self, index: int) -> str:
        return self.addresses.name(index)

    def _read(self, index: int) -> Sample:
        return self.decode(self.addresses.group(index))

    # One sample ------------------------------------------------------------------------------------------

    def decode(self, group: Group, rng: random.Random | None = None, *, draft: bool = False) -> Sample:
        """Bytes to a sample. rng: chooses one of several captions; without it the first is taken. draft:
        decode JPEGs at reduced size. Raises RejectedItemError, and FilteredItemError for what is left out.
        """
        ending = image_ending(group)
        if ending is None:
            raise RejectedItemError("no picture in the sample", ", ".join(k for k in group if k[0] != "_"))
        if has_broken_json(group):
            self.rejects.note("json of a sample that cannot be read", group_name(group))
        if self.filter is not None:
            self.filter.check(group)
        caption = None
        if self.has_captions:
            texts = self.captions.all_of(group)
            if not texts:
                raise RejectedItemError("no caption")
            caption = clean_caption(choose(texts, rng), self.rejects)
        note = partial(self.rejects.note, name=group_name(group))
        image = decode_image(group[ending], self.size, self.bounds, self.enlarge, draft=draft, note=note)
        label = self._label(group) if self.class_names is not None else None
        captions = self._all_captions(group, caption) if caption is not None and rng is None else ()
        return Sample(image, label, caption, captions)

    def _all_captions(self, group: Group, first: str) -> tuple[str, ...]:
        """The first caption and the other good ones, each once."""
        found = [first]
        for text in self.captions.kept(group)[1:]:
            with suppress(RejectedItemError):
                found.append(clean_caption(text, self.rejects))
        return tuple(dict.fromkeys(found))

    def _label(self, group: Group) -> int:
        assert self.classes is not None
        label = label_in(group)
        if label is None:
            raise RejectedItemError("no label")
        index = self.classes.index(label)
        if index is None:
            shown = visible(label) if isinstance(label, str) or abs(label) < 10**20 else "a huge number"
            raise RejectedItemError(
                "label is no class", f"{shown} of {self.num_classes} classes, {self.classes.origin}"
            )
        return index


def _probe(
    reference: str, shards: Sequence[str], bounds: Bounds, rejects: Rejects, *, unused: Rejects | None
) -> list[Group]:
    """The first samples of the first shard that can be read; ValueError when none can."""
    local = [shard for shard in shards if is_local(shard)]
    tried = [*local, *evenly([shard for shard in shards if not is_local(shard)], PROBE_SHARDS)]
    reason = "no samples in them"
    for shard in tried:
        found: list[Group] = []
        try:
            for group in groups(shard, bounds, rejects, unused=unused):
                found.append(group)
                if len(found) == PROBE_SAMPLES:
                    break
        except RejectedItemError as error:
            rejects.add(shard_name(shard), error)
            reason = str(error)
        if found:
            return found
    raise ValueError(
        f"the {len(tried)} shards of {reference} that were tried hold no sample ({reason}): "
        "check the address, or make them again"
    )
