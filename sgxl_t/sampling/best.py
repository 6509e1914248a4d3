"""The best of several images: the one whose CLIP says most clearly that it shows its prompt.

An image chosen by CLIP scores high with CLIP because it was chosen so. Chosen images are for looking at; a
CLIP score or distance of them measures the choice and says nothing about the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from sgxl_t.conditioning.condition import Condition
from sgxl_t.conditioning.text_condition import TextCondition
from sgxl_t.networks.text.clip import ClipModel
from sgxl_t.sampling.image import GeneratedImage

if TYPE_CHECKING:
    from sgxl_t.metrics.distances.clip_score import ClipScore

BATCH = 32
"""Images that pass CLIP at a time."""


def open_scorer(condition: Condition, clip: ClipModel | str | None, device: torch.device) -> ClipScore:
    """What ranks images: the CLIP that is named, or the model's own where its image tower can be had.

    clip: a loaded CLIP, `open_clip:MODEL/TAG` or `local:FOLDER`. ValueError for models without prompts, and
    where no image tower is to be had.
    """
    if not isinstance(condition, TextCondition):
        raise ValueError(
            f"CLIP compares images with prompts and this is a {condition.kind} model: leave best-of out"
        )
    own = condition.original
    if clip is None and own.guide is None and (own.reference or "").startswith("open_clip:"):
        clip = own.reference
    chosen = own.guide if clip is None else clip
    if chosen is None:
        raise ValueError(
            "the model was stored without the image tower of its CLIP, so nothing ranks its images: name a "
            "CLIP with --clip, such as open_clip:ViT-B-32/openai or local:FOLDER of `sgxl-t features train`"
        )
    assert isinstance(chosen, ClipModel | str)
    # The metric brings open_clip along, which takes seconds to import.
    from sgxl_t.metrics.distances.clip_score import ClipScore

    scorer = ClipScore(chosen)
    scorer.clip.to(device)
    return scorer


def best_images(
    generated: Iterable[GeneratedImage], count: int, scorer: ClipScore
) -> Iterator[GeneratedImage]:
    """Of every `count` images in a row, which show one prompt, the best with its score.

    score: cosine of image and prompt as in the metric CLIP score. Of equals the first wins.
    """
    coming = iter(generated)
    while group := list(islice(coming, count)):
        scores: list[float] = []
        for start in range(0, len(group), BATCH):
            part = group[start : start + BATCH]
            pixels = torch.from_numpy(np.stack([np.asarray(one.image.convert("RGB")) for one in part]))
            prompts = [one.condition for one in part]
            scores += scorer.cosines(pixels.permute(0, 3, 1, 2), prompts).tolist()
        best = max(range(len(group)), key=scores.__getitem__)
        yield replace(group[best], score=scores[best])
