"""Captions: cleaned when they are read, one of several drawn, a share left empty in training."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from sgxl_t.datasets.base import Batch, Sample
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.ops.random import python_rng

T = TypeVar("T")

MAX_CAPTION_CHARS = 1000
"""Longer captions are cut at the last space before; text encoders read about 350 characters."""
MAX_LOOKED_AT = 20 * MAX_CAPTION_CHARS
"""Longest part of a caption that is read at all, before runs of spaces become one."""


def clean_caption(caption: object, rejects: Rejects) -> str:
    """One line of text within MAX_CAPTION_CHARS; RejectedItemError when it is no text, broken or empty."""
    if isinstance(caption, bytes):
        try:
            caption = caption.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RejectedItemError("caption is not UTF-8", str(error)) from error
    if not isinstance(caption, str):
        raise RejectedItemError("caption is no text", repr(caption)[:100])
    whole = len(caption) <= MAX_LOOKED_AT
    caption = caption[:MAX_LOOKED_AT]
    if any(0xD800 <= ord(char) <= 0xDFFF for char in caption):
        raise RejectedItemError("caption is not UTF-8")
    text = " ".join("".join(char if char.isprintable() else " " for char in caption).split())
    if not text:
        raise RejectedItemError("caption is empty")
    if len(text) > MAX_CAPTION_CHARS or not whole:
        rejects.note(f"caption cut at {MAX_CAPTION_CHARS} characters")
        text = text[: MAX_CAPTION_CHARS + 1].rsplit(" ", 1)[0][:MAX_CAPTION_CHARS]
    return text


def choose(captions: Sequence[T], rng: random.Random | None) -> T:
    """One of the captions, all equally likely; the first without a generator."""
    return captions[0] if rng is None or len(captions) == 1 else rng.choice(captions)


def choose_caption(sample: Sample, key: str) -> Sample:
    """The sample with one of its captions as `caption`: a function of `key`."""
    if len(sample.captions) < 2:
        return sample
    return replace(sample, caption=choose(sample.captions, python_rng("caption", key)))


def drop_captions(batch: Batch, share: float, key: str) -> Batch:
    """The batch with about `share` of its captions empty; which ones is a function of `key`."""
    if batch.captions is None or share == 0:
        return batch
    rng = python_rng("captions", key)
    return replace(batch, captions=["" if rng.random() < share else text for text in batch.captions])
