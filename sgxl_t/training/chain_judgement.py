"""What the packaged judges say of the stages of a chain on embedded data; other data has no judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgxl_t.conditioning.model_folder import load_model
from sgxl_t.datasets.base import open_source
from sgxl_t.metrics.judges import JUDGE_FILES, load_judge
from sgxl_t.training.runtime import stream
from sgxl_t.training.snapshots import generate

JUDGED = ("class", "text")
"""Conditions whose answers a judge can read."""


def judge_stage(
    best: Path, below: Path | None, data: str, kind: str, *, seed: int, device: torch.device
) -> dict[str, float]:
    """Figures of a stage's best model by name; empty where the data or the condition has no judge.

    One picture, psi 1, for every label or caption of the test split. judge_accuracy: share read as asked for,
    by sprite or digit for labels and in all attributes for captions. judge_frechet and judge_floor: distance
    of the first 1,000 generated and of as many test pictures to 1,000 training pictures of the stage's
    resolution. judge_frechet_all and judge_floor_all: of all of them to up to 4,000. judge_recall and
    judge_recall_real: of all of them. judge_frechet_all_below: of the model `below`, its pictures enlarged to
    this resolution bicubically.
    """
    if data not in JUDGE_FILES or kind not in JUDGED:
        return {}
    images, requested = answers(best, data, kind, seed=seed, device=device)
    side = images.shape[-1]
    judge = load_judge(data, side).to(device)
    named = list(judge.attributes)[:1] if kind == "class" else None
    report = judge.report(images, requested, attributes=named)
    figures = {
        "judge_accuracy": report["accuracy"]["all"],
        "judge_frechet": report["frechet"],
        "judge_floor": report["frechet_floor"],
        "judge_frechet_all": report["frechet_all"],
        "judge_floor_all": report["frechet_all_floor"],
        "judge_recall": report["recall"],
        "judge_recall_real": report["recall_real"],
    }
    if below is not None and side <= judge.resolution:
        lower, requested = answers(below, data, kind, seed=seed, device=device)
        enlarged = judge.report(lower, requested, attributes=named, at=side)
        figures["judge_frechet_all_below"] = enlarged["frechet_all"]
    return figures


def answers(model: Path, data: str, kind: str, *, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pictures uint8 [N, 3, R, R] for the test split's labels or captions, and what each should show."""
    generator, condition, _ = load_model(model)
    generator.to(device)
    condition.to(device)
    source: Any = open_source(data, resolution=generator.img_resolution, split="test")
    samples = [source[index] for index in range(len(source))]
    given = [sample.label if kind == "class" else sample.caption for sample in samples]
    requested = given if kind == "class" else [source.attributes(index) for index in range(len(source))]
    z = torch.randn(len(given), generator.z_dim, generator=stream(seed, "judge", 0, 0)).to(device)
    c = condition.encode(given)
    return generate(generator, None if c is None else c.to(device), z), torch.tensor(requested)
