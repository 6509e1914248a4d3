"""What shards hold, measured on some of their samples."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from typing import Any

from PIL import Image
from tqdm import tqdm

from sgxl_t.datasets.captions import clean_caption
from sgxl_t.datasets.decode import open_picture
from sgxl_t.datasets.rejects import FilteredItemError, RejectedItemError, Rejects
from sgxl_t.datasets.shards.source import ShardSource
from sgxl_t.datasets.shards.tar.opening import is_local
from sgxl_t.datasets.shards.tar.samples import json_of, picture_ending
from sgxl_t.files.terminal import visible


@dataclass(frozen=True)
class Survey:
    """Findings as JSON values, and pictures with captions for a sheet."""

    findings: dict[str, Any]
    pictures: list[tuple[Image.Image, str]]


def survey(source: ShardSource, *, examine: int, pictures: int = 0) -> Survey:
    """Counts all samples by their headers, and decodes at most `examine` of them, evenly spaced.

    pictures: how many of these to keep at the source's resolution, evenly spaced as well. Broken samples are
    added to the source's rejects.
    """
    total = len(source.addresses)
    chosen = _spaced(total, examine)
    kept = set(_spaced(len(chosen), pictures))
    sides: dict[str, list[int]] = {"width": [], "height": []}
    lengths: list[int] = []
    formats: Counter[str] = Counter()
    fields: set[str] = set()
    sheet: list[tuple[Image.Image, str]] = []
    bar = tqdm(chosen, desc="examining samples", unit="img", delay=2, leave=False)
    for place, index in enumerate(bar):
        try:
            group = source.addresses.group(index)
            fields |= json_of(group).keys()
            sample = source.decode(group)
            ending = picture_ending(group)
            assert ending is not None
            picture = open_picture(io.BytesIO(group[ending]), source.bounds)
            captions = [clean_caption(text, Rejects()) for text in source.captions.all_of(group)]
        except FilteredItemError as error:
            source.rejects.add("", error)
            continue
        except RejectedItemError as error:
            source.rejects.add(source.addresses.name(index), error)
            continue
        formats[str(picture.format)] += 1
        for name, side in zip(sides, picture.size, strict=True):
            sides[name].append(side)
        lengths += map(len, captions)
        if place in kept:
            sheet.append((Image.fromarray(sample.image.permute(1, 2, 0).numpy()), sample.caption or ""))
    remote = sum(not is_local(shard) for shard in source.shards)
    findings = {
        "shards": len(source.shards),
        "subsets": [_subset(subset) for subset in source.plan.subsets],
        # Behind URLs nothing is counted: that would read all of it.
        "samples": None if remote == len(source.shards) else total,
        "shards_behind_urls": remote,
        "examined": len(chosen),
        "usable": len(sides["width"]),
        "formats": dict(formats.most_common()),
        **{name: range_of(values) for name, values in sides.items()},
        "caption_characters": range_of(lengths),
        "json_fields": sorted(map(visible, fields)),
        "classes_from": source.classes.origin if source.classes is not None else source.no_labels,
        "rejected": source.rejects.by_reason(),
        "noted": dict(source.rejects.notes),
    }
    return Survey(findings, sheet)


def _spaced(total: int, count: int) -> list[int]:
    """At most `count` of the numbers below `total`, evenly spaced."""
    count = min(total, count)
    return [place * total // count for place in range(count)]


def range_of(values: list[int]) -> dict[str, int]:
    """Smallest, middle and largest value; empty for none."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {"min": ordered[0], "median": ordered[len(ordered) // 2], "max": ordered[-1]}


def _subset(subset: Any) -> dict[str, Any]:
    return {"name": subset.name, "shards": len(subset.shards), "weight": subset.weight}
