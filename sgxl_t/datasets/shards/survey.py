"""What shards hold, measured on some of their samples."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from typing import Any

from PIL import Image
from tqdm import tqdm

from sgxl_t.datasets.base import evenly_spaced
from sgxl_t.datasets.captions import clean_caption
from sgxl_t.datasets.decode import open_image
from sgxl_t.datasets.rejects import FilteredItemError, RejectedItemError, Rejects
from sgxl_t.datasets.shards.source import ShardSource
from sgxl_t.datasets.shards.tar.opening import is_local
from sgxl_t.datasets.shards.tar.samples import image_ending, json_of
from sgxl_t.files.terminal import visible


@dataclass(frozen=True)
class Survey:
    """Findings as JSON values, and images with captions for a sheet."""

    findings: dict[str, Any]
    images: list[tuple[Image.Image, str]]


def survey(source: ShardSource, *, examine: int, images: int = 0) -> Survey:
    """Counts all samples by their headers, and decodes at most `examine` of them, evenly spaced.

    images: how many of these to keep at the source's resolution, evenly spaced as well. Broken samples are
    added to the source's rejects.
    """
    total = len(source.addresses)
    chosen = evenly_spaced(total, examine)
    kept = set(evenly_spaced(len(chosen), images))
    sizes: dict[str, list[int]] = {"width": [], "height": []}
    lengths: list[int] = []
    formats: Counter[str] = Counter()
    fields: set[str] = set()
    sheet: list[tuple[Image.Image, str]] = []
    bar = tqdm(chosen, desc="examining samples", unit="img", delay=2, leave=False)
    for number, index in enumerate(bar):
        try:
            group = source.addresses.group(index)
            fields |= json_of(group).keys()
            sample = source.decode(group)
            ending = image_ending(group)
            assert ending is not None
            image = open_image(io.BytesIO(group[ending]), source.bounds)
            captions = [clean_caption(text, Rejects()) for text in source.captions.all_of(group)]
        except FilteredItemError as error:
            source.rejects.add("", error)
            continue
        except RejectedItemError as error:
            source.rejects.add(source.addresses.name(index), error)
            continue
        formats[str(image.format)] += 1
        for name, side in zip(sizes, image.size, strict=True):
            sizes[name].append(side)
        lengths += map(len, captions)
        if number in kept:
            sheet.append((Image.fromarray(sample.image.permute(1, 2, 0).numpy()), sample.caption or ""))
    remote = sum(not is_local(shard) for shard in source.shards)
    findings = {
        "shards": len(source.shards),
        "subsets": [_subset(subset) for subset in source.order.subsets],
        # Behind URLs nothing is counted: that would read all of it.
        "samples": None if remote == len(source.shards) else total,
        "shards_behind_urls": remote,
        "examined": len(chosen),
        "usable": len(sizes["width"]),
        "formats": dict(formats.most_common()),
        **{name: range_of(values) for name, values in sizes.items()},
        "caption_characters": range_of(lengths),
        "json_fields": sorted(map(visible, fields)),
        "classes_from": source.classes.origin if source.classes is not None else source.no_labels,
        "rejected": source.rejects.by_reason(),
        "noted": dict(source.rejects.notes),
    }
    return Survey(findings, sheet)


def range_of(values: list[int]) -> dict[str, int]:
    """Smallest, middle and largest value; empty for none."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {"min": ordered[0], "median": ordered[len(ordered) // 2], "max": ordered[-1]}


def _subset(subset: Any) -> dict[str, Any]:
    return {"name": subset.name, "shards": len(subset.shards), "weight": subset.weight}
