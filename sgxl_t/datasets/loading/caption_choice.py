"""One of several captions of a picture, drawn anew each time the picture is seen."""

from __future__ import annotations

import random
from dataclasses import replace

from sgxl_t.datasets.base import Sample


def choose_caption(sample: Sample, key: str) -> Sample:
    """The sample with one of its captions, all equally likely, as `caption`: a function of `key`."""
    if len(sample.captions) < 2:
        return sample
    return replace(sample, caption=random.Random(f"caption/{key}").choice(sample.captions))
