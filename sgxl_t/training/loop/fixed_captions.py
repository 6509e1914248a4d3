"""Captions of finite data, encoded once for all runs on them in one folder."""

from __future__ import annotations

import logging
from pathlib import Path

from sgxl_t.conditioning import Condition, TextCondition
from sgxl_t.datasets.base import ImageSource
from sgxl_t.datasets.images.listed import ListedSource
from sgxl_t.training.parallel.machines import share_files
from sgxl_t.training.parallel.main_process import on_main_process
from sgxl_t.training.parallel.runtime import Runtime

MAX_BYTES = 2**30
"""Vectors of a data set that a process holds; larger sets are encoded as they come."""

SPREAD = 64
"""Captions whose length is looked at when a run starts, where they stand in images that have to be read."""

log = logging.getLogger(__name__)


def note_cut_captions(condition: Condition, source: ImageSource) -> None:
    """Says in the log how many captions of a data set are longer than the text encoder reads."""
    if not isinstance(condition, TextCondition):
        return
    if isinstance(source, ListedSource):
        captions = source.known_captions()
    else:
        spread = range(0, len(source), max(1, len(source) // SPREAD))
        captions = (caption for index in spread for caption in source[index].captions)
    if note := condition.encoder.cut_note(captions):
        log.warning("%s", note)


def cache_captions(condition: Condition, source: ImageSource, runtime: Runtime, folder: Path) -> None:
    """Lets the condition keep the vectors of all captions of a data set that lists them.

    Only for published encoders: local ones read a caption faster than it pays to store. The main process
    encodes, the others read.
    """
    if not isinstance(condition, TextCondition) or not condition.original.pretrained:
        return
    if not isinstance(source, ListedSource):
        return
    captions = sorted({caption for entry in source.entries for caption in entry.captions})
    if len(captions) * condition.spec.dim * 4 > MAX_BYTES:
        return
    with on_main_process(runtime, folder, "its captions"):
        if runtime.is_main:
            condition.cache(captions, folder)
    share_files(runtime, folder)
    if not runtime.is_main:
        condition.cache(captions, folder)
