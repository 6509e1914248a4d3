"""Do text edits move the scene and leave the object? The packaged judge reads pictures before and after.

    python benchmarks/edits.py [--model demo_text] [--seeds 32] [--strengths 0.75,1,1.25] [--layers 0-9]
        [--clip REF]

For each edit between two scenes of data/prompts/edits.txt: pictures of 24 objects in the scene that it
leads from, one for each seed, moved along the direction. moved: share that the judge of emoji-scenes:24x8
then places in the scene that it leads to. kept: share in which it reads the same object as before. Aimed
at: 80 % and 90 %. asked_moved and asked_kept are the same for pictures of the prompt that names the other
scene, with the same seeds: what the model does without a direction. Eight objects find a direction, the
other sixteen are new to it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgxl_t.datasets.embedded.emoji_scenes import EmojiScenes
from sgxl_t.metrics.judges.judges import Judge, load_judge
from sgxl_t.sampling.directions.direction import parse_strengths
from sgxl_t.sampling.directions.edits_file import read_edits
from sgxl_t.sampling.latents import Latents
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.sampling.sample_spec import parse_layers

DATA = "emoji-scenes:24x8"
EDITS = Path(__file__).parents[1] / "data/prompts/edits.txt"
SCENES = {
    "at night": ("in snow", "at night", "night"),
    "in snow": ("on a beach", "in snow", "snow"),
    "in the sea": ("in a meadow", "in the blue sea", "water"),
    "in the desert": ("at night", "in the desert", "desert"),
}
"""Name of an edit to the words that it leads from and to, and what the judge calls the latter."""


def read(judge: Judge, pipe: Pipeline, latents: Latents) -> Tensor:
    """Object and scene, int64 [N, 2], of the images of latents."""
    pictures = np.stack([np.asarray(image) for image in pipe(ws=latents).images])
    return judge.read(torch.from_numpy(pictures).permute(0, 3, 1, 2))[:, :2]


def share(right: Tensor) -> float:
    """Of trues, in percent."""
    return float(f"{100 * right.double().mean():.3g}")


def main() -> None:
    """Prints a line of JSON for each edit and strength, and the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="demo_text")
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--strengths", default="0.75,1,1.25")
    parser.add_argument("--layers")
    parser.add_argument("--clip", help="find directions through this CLIP")
    asked = parser.parse_args()
    layers = None if asked.layers is None else parse_layers(asked.layers)
    pipe, judge = Pipeline.from_pretrained(asked.model), load_judge(DATA, 32)
    kinds = EmojiScenes("24x8").attribute_values
    objects, scenes = kinds["object"], kinds["scene"]
    rows = []
    for edit in read_edits(EDITS, list(SCENES)):
        first, last, scene = SCENES[edit.name]
        subjects, others = (
            Latents.join(
                [
                    pipe(f"a {objects[seed % len(objects)]} {words}", seed=seed, output="latents")
                    for seed in range(asked.seeds)
                ]
            )
            for words in (first, last)
        )
        before, plain = read(judge, pipe, subjects), read(judge, pipe, others)
        goal = scenes.index(scene)
        if asked.clip is None:
            direction = pipe.directions.between(edit.firsts, edit.lasts, name=edit.name)
        else:
            ends = (edit.firsts, edit.lasts)
            direction = pipe.directions.by_clip(*ends, asked.clip, list(edit.firsts), name=edit.name)
        for strength in parse_strengths(asked.strengths):
            after = read(judge, pipe, pipe.edit(subjects, direction, strength, layers=layers))
            row = {
                "edit": edit.name,
                "strength": strength,
                "moved": share(after[:, 1] == goal),
                "kept": share(after[:, 0] == before[:, 0]),
                "asked_moved": share(plain[:, 1] == goal),
                "asked_kept": share(plain[:, 0] == before[:, 0]),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    for strength in parse_strengths(asked.strengths):
        part = [row for row in rows if row["strength"] == strength]
        means = {name: round(sum(row[name] for row in part) / len(part), 1) for name in ("moved", "kept")}
        print(json.dumps({"edit": "mean", "strength": strength, **means}))


if __name__ == "__main__":
    main()
