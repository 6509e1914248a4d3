"""Draws the prompts of a file and has a judge read the pictures: `make prompts`.

The judge is one of emoji-worlds, or of its first things, that took no part in any training
(`scripts/train_judges.py emoji-worlds`, `emoji-worlds:24x8`). A line above each prompt says what its picture
should show (`data/prompts/demo.txt`). Beside every share stands the judge's own on real pictures, which no
model can pass.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from sgxl_t.datasets.embedded.worlds.source import is_held_out
from sgxl_t.datasets.open import open_source
from sgxl_t.files.whole import write_whole
from sgxl_t.metrics.judges.judges import Judge, read_source
from sgxl_t.sampling.output.grid import labelled_grid
from sgxl_t.sampling.pipeline import Pipeline

PROMPTS = Path("data/prompts/demo.txt")
ATTRIBUTES = ("object", "scene", "size", "colour", "count", "second", "style")
STYLES = {"flat": ("flat", "twemoji", "noto"), "3D": ("3d",), "cartoon": ("noto", "blob", "twemoji", "flat")}
"""Designs that a style word may show."""
DESIGN_SEEDS, DESIGN_PROMPTS = 64, 8
"""Pictures of one prompt whose designs are counted, and how many prompts."""
SHEET_COLUMNS = 10
REAL = 1000
"""Real pictures that show how well the judge reads."""


@dataclass(frozen=True)
class Wanted:
    """A prompt, what its picture should show by attribute, and its kind ("" or "synonym")."""

    prompt: str
    shows: dict[str, str]
    kind: str


def read_bench(path: Path) -> list[Wanted]:
    """Prompts with the comment line above each; ValueError for a prompt without one."""
    found, above = [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            above = line.removeprefix("#").strip()
        elif line.strip():
            pairs = dict(part.strip().split("=", 1) for part in above.split(",") if "=" in part)
            kind = pairs.pop("kind", "")
            if not {"object", "scene"} <= pairs.keys() <= set(ATTRIBUTES):
                raise ValueError(
                    f"{path}: {line!r} lacks object and scene: write # object=fox, scene=snow above it"
                )
            found.append(Wanted(line.strip(), pairs, kind))
            above = ""
    return found


class Reader:
    """Says which attributes of generated pictures are as wanted."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.source: Any = open_source(judge.reference, resolution=judge.resolution)
        self.values: dict[str, tuple[str, ...]] = self.source.attribute_values

    def right(self, images: Tensor, wanted: list[Wanted]) -> list[dict[str, bool]]:
        """Per picture whether each named attribute is right. images: uint8 [N, 3, R, R]."""
        names = list(self.judge.attributes)
        rows = self.judge.read(images).tolist()
        shown = [{name: self.values[name][row[names.index(name)]] for name in names} for row in rows]
        return [
            {name: self._fits(name, value, one.shows, seen) for name, value in one.shows.items()}
            for one, seen in zip(wanted, shown, strict=True)
        ]

    def _fits(self, name: str, value: str, shows: dict[str, str], seen: dict[str, str]) -> bool:
        if name == "style":
            return seen["design"] in STYLES[value]
        if name == "colour" and seen["colour"] == "own":
            thing = self.source.things[self.values["object"].index(shows["object"])]
            return value in thing.colours
        if name == "object" and "second" in shows:
            return {seen["object"], seen["second"]} == {value, shows["second"]}
        if name == "second":
            return {seen["object"], seen["second"]} == {value, shows["object"]}
        return seen[name] == value

    def unseen(self, one: Wanted) -> bool:
        """Whether training never shows thing, scene and colour together."""
        names = "object", "scene", "colour"
        numbers = (
            self.values[name].index(one.shows.get(name, "own" if name == "colour" else "")) for name in names
        )
        return is_held_out(*numbers)


def summary(wanted: list[Wanted], right: list[dict[str, bool]], unseen: list[bool]) -> dict[str, Any]:
    """Shares of pictures that show what was asked for, with the number of pictures of each kind."""
    pairs = list(zip(wanted, right, unseen, strict=True))
    both = [one["object"] and one["scene"] for one in right]
    kinds = {
        "object and scene": [*both],
        "object": [one["object"] for one in right],
        "scene": [one["scene"] for one in right],
        "all that is named": [all(one.values()) for one in right],
        "colour": [one["colour"] for one in right if "colour" in one],
        "count": [one["count"] for one in right if "count" in one],
        "combinations never shown": [ok for ok, (_, _, new) in zip(both, pairs, strict=True) if new],
        "words never shown": [
            ok for ok, (one, _, _) in zip(both, pairs, strict=True) if one.kind == "synonym"
        ],
    }
    return {
        name: {"share": float(np.mean(values)) if values else None, "pictures": len(values)}
        for name, values in kinds.items()
    }


def designs(pipe: Pipeline, reader: Reader, prompts: list[str], psi: float) -> list[dict[str, Any]]:
    """Per prompt the designs that a judge finds among 64 seeds, and the share of the commonest."""
    found = []
    column, names = list(reader.judge.attributes).index("design"), reader.values["design"]
    for prompt in prompts:
        images = pictures(pipe, [prompt] * DESIGN_SEEDS, list(range(DESIGN_SEEDS)), psi)[1]
        counts = Counter(names[row[column]] for row in reader.judge.read(images).tolist())
        found.append({"prompt": prompt, "designs": dict(counts), "most": max(counts.values()) / DESIGN_SEEDS})
    return found


def pictures(
    pipe: Pipeline, prompts: list[str], seeds: list[int], psi: float = 1.0
) -> tuple[list[Any], Tensor]:
    """One picture per prompt and seed, as images and as uint8 [N, 3, R, R]."""
    images = [one.image for one in pipe.pairs(prompts, seeds, batch_size=64, psi=psi)]
    stacked = np.stack([np.asarray(image) for image in images])
    return images, torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()


@click.command()
@click.option("--model", default="demo_text", show_default=True, help="Model folder, run or Hub id.")
@click.option("--prompts", type=click.Path(path_type=Path), default=PROMPTS, show_default=True)
@click.option("--judge", type=click.Path(path_type=Path, exists=True), required=True, help="Its file.")
@click.option("--data", help="Leave out prompts with what this set lacks.  [default: the judge's]")
@click.option("--seeds", default=4, show_default=True, help="Pictures per prompt that are read.")
@click.option("--psi", default=1.0, show_default=True, help="Truncation of the pictures that are read.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("prompts"), show_default=True)
def main(model: str, prompts: Path, judge: Path, data: str | None, seeds: int, psi: float, out: Path) -> None:
    """Writes OUT/prompts.png and OUT/prompts.json, and prints the shares."""
    out.mkdir(parents=True, exist_ok=True)
    pipe, reader = Pipeline.from_pretrained(model), Reader(Judge(judge))
    every = read_bench(prompts)
    data = data or reader.judge.reference
    wanted = known(every, data)
    if len(wanted) < len(every):
        print(f"{len(every) - len(wanted)} of {len(every)} prompts name things or scenes that {data} lacks")
    right, first = [], []
    for seed in range(seeds):
        # Another seed for each prompt: a seed that all share would share its luck.
        numbers = [seed * 1000 + number for number in range(len(wanted))]
        images, stacked = pictures(pipe, [one.prompt for one in wanted], numbers, psi)
        right += reader.right(stacked, wanted)
        first = first or images
    scores = summary(wanted * seeds, right, [reader.unseen(one) for one in wanted] * seeds)
    plain = [one.prompt for one in wanted if set(one.shows) == {"object", "scene"} and not one.kind]
    step = max(1, len(plain) // DESIGN_PROMPTS)
    scores["designs"] = designs(pipe, reader, plain[::step][:DESIGN_PROMPTS], psi)
    scores["psi"] = psi
    scores["judge"] = f"{reader.judge.reference} {reader.judge.hash}"
    images, attributes, _ = read_source(data, reader.judge.resolution, "test", REAL)
    scores["real"] = reader.judge.accuracy(images, attributes)
    write_whole(out / "prompts.json", json.dumps(scores, indent=1))
    write_sheet(first, [one.prompt for one in wanted], out / "prompts.png")
    for name, value in scores.items():
        if isinstance(value, dict) and value.get("pictures"):
            print(f"{name:28} {value['share']:.3f} of {value['pictures']}")
    for one in scores["designs"]:
        print(f"{one['prompt']:40} {len(one['designs'])} designs, the commonest {one['most']:.2f}")
    real = ", ".join(f"{name} {share:.3f}" for name, share in scores["real"].items())
    print(f"the judge on {REAL} real pictures: {real}")
    print(f"{out / 'prompts.png'}, {out / 'prompts.json'}")


def known(wanted: list[Wanted], data: str) -> list[Wanted]:
    """The prompts whose things and scene a set has."""
    values: dict[str, tuple[str, ...]] = open_source(data, resolution=64).attribute_values
    return [
        one
        for one in wanted
        if one.shows["object"] in values["object"]
        and one.shows["scene"] in values["scene"]
        and one.shows.get("second", "none") in values["second"]
    ]


def write_sheet(images: list[Any], prompts: list[str], path: Path) -> None:
    """One picture of all prompts, each above its image."""
    rows = -(-len(images) // SHEET_COLUMNS)
    missing = rows * SHEET_COLUMNS - len(images)
    above = prompts + [""] * missing
    titles = [above[row * SHEET_COLUMNS : (row + 1) * SHEET_COLUMNS] for row in range(rows)]
    columns = [""] * SHEET_COLUMNS
    labelled_grid([*images, *[None] * missing], [""] * rows, columns, titles, smallest_cell=192).save(path)


if __name__ == "__main__":
    main()
