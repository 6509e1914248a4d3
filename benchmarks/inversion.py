"""What inversion reaches with a model, part by part; finished parts are read back, so it can be stopped.

    python benchmarks/inversion.py --out DIR [--model MODEL] [--parts self,real,...] [--count 16]
        [--first 0] [--photographs FILE ...]

self: pictures of the model itself at psi .7, in W and tuned. real: pictures of a data set's test split that
the model never saw, in W+ and tuned. photographs: the files of --photographs. encoder: half of
the steps with the model's encoder, against all of them without. published: StyleGAN-XL's procedure (1,000
steps on the features alone, from the mean w) against ours, in turns. batch: time of eight photographs against
one. --first: number of the first picture, for other pictures than those that settings were chosen on.
Seconds are those of the processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from sgxl_t.datasets.open import open_source
from sgxl_t.files.whole import write_whole
from sgxl_t.ops.images import from_uint8
from sgxl_t.sampling.inversion.invert import Inversion, Inverted, run_inversion
from sgxl_t.sampling.inversion.losses import open_features, psnr
from sgxl_t.sampling.inversion.optimise import Goal, ramp
from sgxl_t.sampling.inversion.photos import read_photos
from sgxl_t.sampling.inversion.results import write_results
from sgxl_t.sampling.inversion.settings import InversionSettings
from sgxl_t.sampling.inversion.style_pool import StylePool, all_conditions, synthesize
from sgxl_t.sampling.pipeline import Pipeline

Row = dict[str, Any]


class Bench:
    """A model and the pictures that it is asked to find."""

    def __init__(self, model: str, numbers: range, out: Path, photographs: list[str]) -> None:
        self.pipe, self.numbers, self.out = Pipeline.from_pretrained(model), numbers, out
        self.count, self.photographs = len(numbers), photographs

    def own(self) -> list[Image.Image]:
        """Pictures of the model itself, each of its own caption, class or nothing, at psi .7."""
        every = all_conditions(self.pipe.condition, self.pipe.info)
        order = torch.randperm(len(every), generator=torch.Generator().manual_seed(5)).tolist()
        asked = [every[order[number % len(order)]] for number in self.numbers]
        if self.pipe.condition.kind == "none":
            return list(self.pipe(seeds=self.numbers, psi=0.7).images)
        return [one.image for one in self.pipe.pairs(asked, self.numbers, psi=0.7)]

    def real(self) -> list[Any]:
        """Pictures of the test split of what the model was trained on."""
        assert self.pipe.info is not None
        data, resolution = str(self.pipe.info.provenance["data"]), self.pipe.generator.img_resolution
        source = open_source(data, resolution=resolution, split="test")
        return [source[number].image for number in self.numbers]

    def inverted(self, photos: list[Any], name: str | None = None, **settings: Any) -> tuple[Inverted, float]:
        """An inversion and its seconds. name: of the folder that its results go to."""
        began, config = time.process_time(), self.pipe.generator.config
        read = read_photos(photos, config.img_resolution, config.img_channels)
        inversion = Inversion(self.pipe.source, self.pipe.info, read, [], InversionSettings(**settings))
        run_inversion(inversion, progress=_said(name or "inversion", began))
        seconds = time.process_time() - began
        if name is not None:
            write_results(self.out / name, inversion, done=True)
        return inversion.result(), seconds


def part_self(bench: Bench) -> Row:
    """Must: median 30 dB in W within 300 steps, 38 dB tuned."""
    found, seconds = bench.inverted(bench.own(), "self", steps=300, space="w", pti=100, encoder=False)
    return {**_stages(found), "seconds": seconds}


def part_real(bench: Bench) -> Row:
    """Must: 22 dB in W+, 30 dB tuned."""
    found, seconds = bench.inverted(bench.real()[: bench.count // 2], "real", steps=300, pti=350)
    return {**_stages(found), "seconds": seconds}


def part_photographs(bench: Bench) -> Row:
    """Photographs that have nothing to do with what the model was trained on."""
    found, seconds = bench.inverted(bench.photographs, "photographs", steps=300, pti=350)
    each = {photo.name: ratio for photo, ratio in zip(found.photos, found.psnr, strict=True)}
    return {**_stages(found), "each": each, "seconds": seconds}


def part_encoder(bench: Bench) -> Row:
    """Must: half of the steps reach the same PSNR from the encoder's start, for real pictures too."""
    row: Row = {}
    for kind, photos in (("real", bench.real()), ("own", bench.own())):
        for name, steps, encoder in (("search 100", 100, False), ("encoder 50", 50, True)):
            found, seconds = bench.inverted(photos, steps=steps, space="w", encoder=encoder)
            row[f"{kind}, {name}"] = {**_stages(found), "seconds": seconds, "each": found.psnr}
    return row


def part_published(bench: Bench) -> Row:
    """Must: equal or better PSNR in a third of the time. Rounds of four pictures each, all ways in turn."""
    real, own = bench.real(), bench.own()
    ratios: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    for start in range(0, 4, 2):
        photos = real[start : start + 2] + own[start : start + 2]
        began = time.process_time()
        ratios.setdefault("published", []).extend(_published(bench.pipe, photos))
        whole = time.process_time() - began
        for name, steps, space in OURS:
            found, seconds = bench.inverted(photos, steps=steps, space=space)
            ratios.setdefault(name, []).extend(found.psnr)
            shares.setdefault(name, []).append(seconds / whole)
    return {
        name: {"psnr": statistics.median(each), "share of the time": shares.get(name, [1.0]), "each": each}
        for name, each in ratios.items()
    }


OURS = (("w 200", 200, "w"), ("w+ 250", 250, "w+"))


def part_batch(bench: Bench) -> Row:
    """Must: eight photographs take at most 2.5 times as long as one."""
    row: Row = {}
    for count in (1, 8):
        _, row[str(count)] = bench.inverted(bench.real()[:count], steps=40, encoder=False, candidates=64)
    return {**row, "ratio": row["8"] / row["1"]}


def _published(pipe: Pipeline, photos: list[Any]) -> list[float]:
    """StyleGAN-XL's latent optimisation: one w from the mean, 1,000 steps of Adam, rate .1, features alone.

    Its LPIPS is the feature loss that is to be had here.
    """
    generator, config = pipe.generator, pipe.generator.config
    read = read_photos(photos, config.img_resolution, config.img_channels)
    target = from_uint8(torch.stack([photo.pixels for photo in read]))
    goal = Goal.of(target, open_features(None, torch.device("cpu")), 1.0, None, len(read))
    pool = StylePool(generator, pipe.condition, all_conditions(pipe.condition, pipe.info))
    mean = pool.draw(10_000, torch.Generator().manual_seed(123)).w.mean(dim=0)
    w = mean.expand(len(read), 1, -1).clone().requires_grad_()
    optimizer, steps = torch.optim.Adam([w], lr=0.1), 1000
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * ramp(step, steps)
        loss = goal.features.distance(synthesize(generator, w), goal.embedded)
        (w.grad,) = torch.autograd.grad(loss.sum(), w)
        optimizer.step()
    return psnr(synthesize(generator, w.detach()), target).tolist()


def _stages(found: Inverted) -> Row:
    row: Row = {"features": found.features}
    for name, values in found.stage_psnr.items():
        row[name] = {"median": statistics.median(values), "lowest": min(values)}
    return row


def _said(name: str, began: float) -> Callable[[Any, Any], None]:
    def say(inversion: Any, step: Any) -> None:
        if inversion.step % 50 == 0:
            seconds = time.process_time() - began
            print(f"{name} {inversion.step}: {float(step.psnr.median()):.1f} dB, {seconds:.0f} s", flush=True)

    return say


PARTS = {
    "self": part_self,
    "real": part_real,
    "photographs": part_photographs,
    "encoder": part_encoder,
    "published": part_published,
    "batch": part_batch,
}


def main() -> None:
    """Runs the parts that are not there yet and prints all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="data/emoji-scenes/model")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--photographs", nargs="+", default=[], metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    numbers = range(options.first, options.first + options.count)
    bench = Bench(options.model, numbers, options.out, options.photographs)
    for name in options.parts.split(","):
        if name == "photographs" and not options.photographs:
            continue
        file = options.out / f"{name}.json"
        if not file.is_file():
            write_whole(file, json.dumps(PARTS[name](bench), indent=1))
        print(f"{name}: {file.read_text()}", flush=True)


if __name__ == "__main__":
    main()
