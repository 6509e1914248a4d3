"""Does a direction of a chain's low stage do the same at the next one? The judge of digits reads both.

    python benchmarks/edits_of_stages.py RUN [--pairs 1-7,3-8] [--seeds 32]

RUN: a run with stages that was trained on `digits` by class. moved: share of pictures of the first class that
are read as the second one after a direction from class to class, found at the lowest stage, at strength 1;
before: share that was read as the first. For the first component of PCA, whose meaning the judge has no word
for: alike, the correlation of what it changes at the lowest stage with what it changes at this one, reduced
to the lowest side, in the mean over pictures; kept: share that is still read as its class, all ten in turn.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.metrics.judges.judges import load_judge
from sgxl_t.sampling.latents import Latents
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.sampling.sheets.stages import chain_of

PAIRS = "1-7,3-8,4-9,0-6,5-2"
DEVIATIONS = 2.0
"""How far PCA's component is followed."""


def drawn(pipe: Pipeline, latents: Latents) -> Tensor:
    """uint8 [N, 3, R, R]."""
    pictures = np.stack([np.asarray(image) for image in pipe(ws=latents).images])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def changed(pipe: Pipeline, rows: Latents, moved: Latents, side: int) -> Tensor:
    """What moving changes in each picture, float32 [N, D], centred."""
    after, before = (
        F.adaptive_avg_pool2d(drawn(pipe, part).float(), side).flatten(1) for part in (moved, rows)
    )
    return (after - before) - (after - before).mean(dim=1, keepdim=True)


def main() -> None:
    """Prints a line of JSON for each stage and pair of classes, and for each stage and the component."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--pairs", default=PAIRS)
    parser.add_argument("--seeds", type=int, default=32)
    asked = parser.parse_args()
    pipes = [Pipeline.from_pretrained(folder) for folder in chain_of([asked.run])]
    judge, seeds, low = load_judge("digits"), range(asked.seeds), pipes[0]

    for first, last in (pair.split("-") for pair in asked.pairs.split(",")):
        direction = low.directions.between(first, last)
        for pipe in pipes:
            rows = pipe(first, seeds=seeds, output="latents")
            before, after = (
                judge.read(drawn(pipe, part))[:, 0] for part in (rows, pipe.edit(rows, direction, 1.0))
            )
            row = {"stage": pipe.generator.img_resolution, "from": first, "to": last}
            shares = {"before": percent(before == int(first)), "moved": percent(after == int(last))}
            print(json.dumps({**row, **shares}), flush=True)

    component = low.directions.pca(1)
    classes = [str(seed % 10) for seed in seeds]
    seen = []
    for pipe in pipes:
        rows = Latents.join(
            [pipe(one, seed=seed, output="latents") for one, seed in zip(classes, seeds, strict=True)]
        )
        moved = pipe.edit(rows, component, DEVIATIONS)
        seen.append(changed(pipe, rows, moved, low.generator.img_resolution))
        alike = F.cosine_similarity(seen[0], seen[-1]).mean()
        kept = judge.read(drawn(pipe, moved))[:, 0] == torch.tensor([int(one) for one in classes])
        row = {"stage": pipe.generator.img_resolution, "direction": component.names[0]}
        print(json.dumps({**row, "alike": round(float(alike), 3), "kept": percent(kept)}), flush=True)


def percent(right: Tensor) -> float:
    """Share of trues."""
    return float(f"{100 * right.double().mean():.3g}")


if __name__ == "__main__":
    main()
