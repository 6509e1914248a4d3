"""What the packaged judges say of the stages of a run on embedded data; other data has no judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgxl_t.conditioning.generate import generate
from sgxl_t.datasets.open import open_source
from sgxl_t.metrics.judges.judges import JUDGE_FILES, Judge, load_judge
from sgxl_t.model_io.model_folder import load_model, read_info
from sgxl_t.ops.random import training_rng

JUDGED = ("class", "text")
"""Conditions whose answers a judge can read."""


def judge_stage(
    best: Path, below: Path | None, data: str, kind: str, *, seed: int, device: torch.device
) -> dict[str, float]:
    """Figures of a stage's best model by name; empty where the data or the condition has no judge.

    One image, psi 1, for every label or caption of the test split. judge_accuracy: share read as asked for,
    by sprite or digit for labels and in all attributes for captions. judge_frechet and judge_floor: distance
    of the first 1,000 generated and of as many test images to 1,000 training images of the stage's
    resolution. judge_frechet_all and judge_floor_all: of all of them to up to 4,000. judge_recall and
    judge_recall_real: of all of them. judge_frechet_all_below: of the model `below` where its side is
    smaller, its images enlarged to this resolution bicubically. For captions also what `_text_figures`
    gives.
    """
    if data not in JUDGE_FILES or kind not in JUDGED:
        return {}
    shown = answers(best, data, kind, seed=seed, device=device)
    side = shown.images.shape[-1]
    judge = load_judge(data, side).to(device)
    named = list(judge.attributes)[:1] if kind == "class" else None
    report = judge.report(shown.images, shown.requested, attributes=named)
    figures = {
        "judge_accuracy": report["accuracy"]["all"],
        "judge_frechet": report["frechet"],
        "judge_floor": report["frechet_floor"],
        "judge_frechet_all": report["frechet_all"],
        "judge_floor_all": report["frechet_all_floor"],
        "judge_recall": report["recall"],
        "judge_recall_real": report["recall_real"],
    }
    if kind == "text":
        unseen = answers(best, data, kind, seed=seed, device=device, split="held_out")
        figures |= _text_figures(judge, shown, unseen)
    if below is not None and read_info(below).generator.img_resolution < side <= judge.resolution:
        lower = answers(below, data, kind, seed=seed, device=device)
        enlarged = judge.report(lower.images, lower.requested, attributes=named, at=side)
        figures["judge_frechet_all_below"] = enlarged["frechet_all"]
    return figures


def _text_figures(judge: Judge, shown: Answers, unseen: Answers) -> dict[str, float]:
    """judge_OBJECT_SCENE: share where these two are right (all attributes but the last, the size). held_out:
    the same of captions whose pair of object and scene no training image shows. judge_retrieval: share
    whose own caption is the nearest of 256 to the judge's own CLIP, which trained nothing; judge_clip: mean
    cosine there, held out as well."""
    pair = list(judge.attributes)[:2]
    speaker = judge if judge.clip is not None else load_judge(judge.reference)
    speaker.to(shown.images.device)
    figures = {}
    for ending, side in (("", shown), ("_held_out", unseen)):
        both = judge.accuracy(side.images, side.requested[:, : len(pair)], pair)
        figures[f"judge_{'_'.join(pair)}{ending}"] = both["all"]
        figures[f"judge_clip{ending}"] = speaker.clip_score(side.images, side.captions)
    figures["judge_accuracy_held_out"] = judge.accuracy(unseen.images, unseen.requested)["all"]
    figures["judge_retrieval"] = speaker.retrieval_at_1(shown.images, shown.requested, shown.captions)
    return figures


@dataclass(frozen=True)
class Answers:
    """Pictures uint8 [N, 3, R, R], what each should show (int64 [N] or [N, A]) and the captions asked for."""

    images: Tensor
    requested: Tensor
    captions: list[str]


def answers(
    model: Path, data: str, kind: str, *, seed: int, device: torch.device, split: str = "test"
) -> Answers:
    """What a model makes of the labels or captions of a split, psi 1."""
    generator, condition, _ = load_model(model)
    generator.to(device)
    condition.to(device)
    source: Any = open_source(data, resolution=generator.img_resolution, split=split)
    samples = [source[index] for index in range(len(source))]
    given = [sample.label if kind == "class" else sample.caption for sample in samples]
    requested = given if kind == "class" else [source.attributes(index) for index in range(len(source))]
    z = torch.randn(len(given), generator.z_dim, generator=training_rng(seed, "judge", 0)).to(device)
    images = generate(generator, condition, given, z)
    return Answers(images, torch.tensor(requested), [sample.caption or "" for sample in samples])
