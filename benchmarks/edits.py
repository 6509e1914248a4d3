"""Do text edits move the scene and leave the object? The packaged judge reads pictures before and after.

    python benchmarks/edits.py [--model data/emoji-scenes/model] [--seeds 32] [--first-seed 0]
        [--strengths 0.75,1,1.25] [--layers 0-9] [--clip REF] [--inverted N [--space w]]

For each edit between two scenes of data/prompts/edits.txt: pictures of 24 objects in the scene that it
leads from, one for each seed, moved along the direction. moved: share that the judge of emoji-scenes:24x8
then places in the scene that it leads to. kept: share in which it reads the same object as before. Aimed
at: 80 % and 90 %. clear: share in which it read the object of the prompt before anything was moved;
clear_kept: kept among these. asked_moved and asked_kept are the same for pictures of the prompt that names
the other scene, with the same seeds: what the model does without a direction. Eight objects find a
direction, the other sixteen are new to it.

With --inverted, in place of seeds, N pictures of the test split for each scene that an edit leads from, which
the model never saw, as `sgxl-t invert --pti 350` finds them, all in one call: in W+ or W, and with the
generator that is tuned to them. kept: share in which the judge reads the object that it reads in the picture
of the test split; clear: the same before anything is moved, so what inversion has lost already.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgxl_t.datasets.embedded.emoji_scenes import EmojiScenes
from sgxl_t.metrics.judges.judges import Judge, load_judge
from sgxl_t.sampling.asked_numbers import parse_layers
from sgxl_t.sampling.directions.direction import Directions, parse_strengths
from sgxl_t.sampling.directions.edits_file import Edit, read_edits
from sgxl_t.sampling.inversion.invert import Inverted
from sgxl_t.sampling.latents import Latents
from sgxl_t.sampling.pipeline import Pipeline

DATA = "emoji-scenes:24x8"
EDITS = Path(__file__).parents[1] / "data/prompts/edits.txt"
SCENES = {
    "at night": ("in snow", "snow", "at night", "night"),
    "in snow": ("on a beach", "beach", "in snow", "snow"),
    "in the sea": ("in a meadow", "grass", "in the blue sea", "water"),
    "in the desert": ("at night", "night", "in the desert", "desert"),
}
"""Name of an edit to the words that it leads from and to, each with the judge's name of the scene."""
TUNING = 350
"""Steps of pivotal tuning."""

Row = dict[str, Any]


class Bench:
    """A model whose pictures are edited, and the judge who reads them."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked, self.pipe = asked, Pipeline.from_pretrained(asked.model)
        self.judge: Judge = load_judge(DATA, 32)
        self.layers = None if asked.layers is None else parse_layers(asked.layers)
        kinds = EmojiScenes("24x8").attribute_values
        self.objects, self.scenes = kinds["object"], kinds["scene"]

    def direction(self, edit: Edit) -> Directions:
        """Between prompts, or by CLIP where one is named."""
        ends, find = (edit.firsts, edit.lasts), self.pipe.directions
        if self.asked.clip is None:
            return find.between(*ends, name=edit.name)
        return find.by_clip(*ends, self.asked.clip, list(edit.firsts), name=edit.name)

    def seeds(self, edit: Edit, direction: Directions) -> Iterator[Row]:
        """A row for each strength: the model's own pictures."""
        first, _, last, scene = SCENES[str(edit.name)]
        seeds = range(self.asked.first_seed, self.asked.first_seed + self.asked.seeds)
        subjects, others = (self.drawn(words, seeds) for words in (first, last))
        before = self.read(self.pipe, subjects)
        plain = self.shares(self.read(self.pipe, others), before, scene)
        clear = before[:, 0] == torch.tensor([seed % len(self.objects) for seed in seeds])
        told = {f"asked_{name}": value for name, value in plain.items()}
        for row in self.strengths(self.pipe, subjects, direction, (before, clear), scene):
            yield {"edit": edit.name, **row, **told}

    def drawn(self, words: str, seeds: range) -> Latents:
        """One object after the other, with these words behind it."""
        asked = [(f"a {self.objects[seed % len(self.objects)]} {words}", seed) for seed in seeds]
        return Latents.join([self.pipe(prompt, seed=seed, output="latents") for prompt, seed in asked])

    def inverted(self, edit: Edit, direction: Directions) -> Iterator[Row]:
        """A row for each way to invert and each strength: pictures that the model never saw."""
        _, start, _, scene = SCENES[str(edit.name)]
        found, before = self.found
        assert found.tuned is not None
        own = [row for row, shown in enumerate(before[:, 1]) if shown == self.scenes.index(start)]
        rows, known = found.latents[own], before[own]
        space = self.asked.space
        for name, stage, pipe in (
            (space, space, self.pipe),
            (f"{space}, tuned", "pti", self.pipe.tuned_by(found.tuned)),
        ):
            clear = self.read(pipe, rows)[:, 0] == known[:, 0]
            ratio = float(np.median([found.stage_psnr[stage][row] for row in own]))
            for row in self.strengths(pipe, rows, direction, (known, clear), scene):
                yield {"edit": edit.name, "inverted": name, "psnr": round(ratio, 1), **row}

    @cached_property
    def found(self) -> tuple[Inverted, Tensor]:
        """Pictures of every scene that an edit leads from, inverted together; object and scene, [N, 2]."""
        data = EmojiScenes("24x8", split="test")
        wanted = [self.scenes.index(start) for _, start, _, _ in SCENES.values()]
        shown = [
            [number for number in range(len(data)) if data.attributes(number)[1] == scene] for scene in wanted
        ]
        chosen = [number for numbers in shown for number in numbers[: self.asked.inverted]]
        pictures = torch.stack([data[number].image for number in chosen])
        print(f"inverting {len(chosen)} pictures", file=sys.stderr)
        read = self.judge.read(pictures)[:, :2]
        read[:, 1] = torch.tensor([data.attributes(number)[1] for number in chosen])
        return self.pipe.invert(list(pictures), space=self.asked.space, pti=TUNING), read

    def strengths(
        self,
        pipe: Pipeline,
        rows: Latents,
        direction: Directions,
        known: tuple[Tensor, Tensor],
        scene: str,
    ) -> Iterator[Row]:
        """What each strength makes of rows. known: what they were read as, and which are clear, bool [N]."""
        before, clear = known
        for strength in parse_strengths(self.asked.strengths):
            after = self.read(pipe, pipe.edit(rows, direction, strength, layers=self.layers))
            found = self.shares(after, before, scene)
            held = self.shares(after[clear], before[clear], scene)["kept"]
            yield {"strength": strength, **found, "clear": percent(clear), "clear_kept": held}

    def read(self, pipe: Pipeline, latents: Latents) -> Tensor:
        """Object and scene, int64 [N, 2], of the images of latents."""
        pictures = np.stack([np.asarray(image) for image in pipe(ws=latents).images])
        return self.judge.read(torch.from_numpy(pictures).permute(0, 3, 1, 2))[:, :2]

    def shares(self, after: Tensor, before: Tensor, scene: str) -> Row:
        """In percent: in this scene, and with the object of before. Both int64 [N, 2]."""
        right = {"moved": after[:, 1] == self.scenes.index(scene), "kept": after[:, 0] == before[:, 0]}
        return {name: percent(part) for name, part in right.items()}


def percent(right: Tensor) -> float:
    """Share of trues."""
    return float(f"{100 * right.double().mean():.3g}")


def means(rows: list[Row]) -> Iterator[Row]:
    """Over the edits, for each strength and way to invert."""
    for kind in dict.fromkeys((row.get("inverted"), row["strength"]) for row in rows):
        part = [row for row in rows if (row.get("inverted"), row["strength"]) == kind]
        told = {} if kind[0] is None else {"inverted": kind[0]}
        names = [name for name in ("psnr", "moved", "kept", "clear", "clear_kept") if name in part[0]]
        figures = {name: round(sum(row[name] for row in part) / len(part), 1) for name in names}
        yield {"edit": "mean", **told, "strength": kind[1], **figures}


def main() -> None:
    """Prints a line of JSON for each edit and strength, and the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="data/emoji-scenes/model")
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--first-seed", type=int, default=0, help="others than those that a figure is of")
    parser.add_argument("--strengths", default="0.75,1,1.25")
    parser.add_argument("--layers")
    parser.add_argument("--clip", help="find directions through this CLIP")
    parser.add_argument("--inverted", type=int, metavar="N", help="pictures of the test split, inverted")
    parser.add_argument("--space", default="w+", choices=("w", "w+"), help="in which they are sought")
    bench = Bench(parser.parse_args())
    rows = []
    for edit in read_edits(EDITS, list(SCENES)):
        made = bench.seeds if bench.asked.inverted is None else bench.inverted
        for row in made(edit, bench.direction(edit)):
            rows.append(row)
            print(json.dumps(row), flush=True)
    for row in means(rows):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
