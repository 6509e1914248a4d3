"""Makes the judges that ship in sgxl_t/metrics/judges/assets: `python scripts/train_judges.py [DATA ...]`.

A judge measures and never trains a generator. Its architecture and seeds are its own, its emoji pictures are
drawn with another seed than any data split, and it sees every sprite-scene pair, held-out ones too.
About five minutes of one CPU core in all; emoji-worlds, whose judge does not ship, takes half an hour more.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sgxl_t.datasets.open import open_source
from sgxl_t.metrics.judges.judge_networks import AttributeNet, JudgeClip, split_words
from sgxl_t.metrics.judges.judges import JUDGE_FILES, Judge, read_source, resized

SEED = 90_001
RECIPES = {
    ("digits", 16): {
        "shape": {"widths": [32, 64, 96], "dim": 64, "stem_stride": 1},
        "jitter": {"shift": 0.12, "angle": 0.2, "scale": 0.12, "light": 20.0},
        "images": 64_000,
        "captions": False,
    },
    ("emoji-scenes:24x8", 32): {
        "shape": {"widths": [32, 64, 128], "dim": 64, "stem_stride": 2},
        "jitter": {"shift": 0.06, "angle": 0.0, "scale": 0.05, "light": 8.0},
        "images": 80_000,
        "captions": True,
    },
    ("emoji-scenes:24x8", 64): {
        "shape": {"widths": [16, 32, 64, 128], "dim": 64, "stem_stride": 2},
        "jitter": {"shift": 0.06, "angle": 0.0, "scale": 0.05, "light": 8.0},
        "images": 80_000,
        "captions": False,
        "softened": [32, 16],
    },
    ("emoji-worlds", 64): {
        "shape": {"widths": [24, 48, 96, 160], "dim": 96, "stem_stride": 2},
        "jitter": {"shift": 0.06, "angle": 0.0, "scale": 0.05, "light": 8.0},
        "images": 240_000,
        "captions": False,
        "softened": [32, 16],
        "limit": 40_000,
    },
    ("emoji-worlds:24x8", 32): {
        "shape": {"widths": [32, 64, 128], "dim": 96, "stem_stride": 1},
        "jitter": {"shift": 0.06, "angle": 0.0, "scale": 0.05, "light": 8.0},
        "images": 160_000,
        "captions": False,
    },
}
"""By data set and side of the pictures; the place of an entry is part of its seed.

softened: with n sides, n of n + 1 pictures are enlarged from one of them in training. A classifier that is
not stored tells them apart, so that the features keep how sharp a picture is, which no attribute asks for.
limit: pictures of the training split, at most.
"""
SHARPNESS_SMOOTHING = 0.5
"""Label smoothing of that classifier: with as little as the attributes have, a slight blur would outweigh in
every distance what the pictures show."""
FILES = JUDGE_FILES | {
    "emoji-worlds": {64: "judge_emoji_worlds.safetensors"},
    "emoji-worlds:24x8": {32: "judge_emoji_worlds_24x8.safetensors"},
}
"""Those of the package, and two that do not ship: of all things and of the first 24."""
BATCH = 64
CLIP_BATCH = 96


def jitter(
    images: Tensor, rng: torch.Generator, *, shift: float, angle: float, scale: float, light: float
) -> Tensor:
    """Small random affine maps and changes of light, so that a judge does not hang on exact pixels."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng) * 2 - 1

    count = len(images)
    turn, size = uniform(count) * angle, 1 + uniform(count) * scale
    rows = [
        torch.stack([turn.cos() * size, -turn.sin() * size, uniform(count) * shift], dim=1),
        torch.stack([turn.sin() * size, turn.cos() * size, uniform(count) * shift], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return (moved * (1 + uniform(count, 1, 1, 1) * 0.1) + uniform(count, 1, 1, 1) * light).clamp(0, 255)


def softened(images: Tensor, sides: list[int], rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures of which equal shares stay or are enlarged from a side of `sides`, and which: int64 [N]."""
    which = torch.randint(1 + len(sides), (len(images),), generator=rng)
    images = images.round().to(torch.uint8)
    for index, side in enumerate(sides, 1):
        chosen = which == index
        images[chosen] = resized(resized(images[chosen], side), images.shape[-1])
    return images, which


def fit(
    network: nn.Module, loss_of, count: int, images: int, batch: int, rng: torch.Generator, name: str
) -> None:
    """AdamW with one learning-rate cycle over `images` pictures; loss_of(indices) gives a loss."""
    steps = images // batch
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in tqdm(range(steps), desc=name, mininterval=5):
        loss = loss_of(torch.randint(count, (batch,), generator=rng))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()


def training_data(reference: str, resolution: int) -> tuple[Tensor, Tensor, list[str]]:
    """Pictures, attributes and captions that a judge learns from."""
    if reference == "digits":
        return read_source(reference, resolution, "train")
    parts = [
        read_source(reference, resolution, "train", RECIPES[reference, resolution].get("limit"), seed=SEED)
    ]
    parts += [read_source(reference, resolution, "held_out", seed=SEED + offset) for offset in range(3)]
    captions = [caption for part in parts for caption in part[2]]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]), captions


def attribute_sizes(reference: str, resolution: int) -> dict[str, int]:
    """Attribute names with their number of values."""
    source = open_source(reference, resolution=resolution)
    if not hasattr(source, "attribute_values"):
        return {"class": source.num_classes}
    return {name: len(values) for name, values in source.attribute_values.items()}


def make(reference: str, resolution: int, folder: Path) -> None:
    """Trains one judge and writes its file."""
    recipe = RECIPES[reference, resolution]
    name = f"{reference} {resolution} px"
    index = list(RECIPES).index((reference, resolution))
    started = time.process_time()
    torch.manual_seed(SEED + index)
    rng = torch.Generator().manual_seed(SEED + index)
    images, attributes, captions = training_data(reference, resolution)
    sizes = attribute_sizes(reference, resolution)
    sides = recipe.get("softened", [])
    extra = {"softened": 1 + len(sides)} if sides else {}
    net = AttributeNet(classes=sizes | extra, **recipe["shape"])

    def attribute_loss(chosen: Tensor) -> Tensor:
        pictures, targets = jitter(images[chosen], rng, **recipe["jitter"]), [*attributes[chosen].T]
        if sides:
            pictures, which = softened(pictures, sides, rng)
            targets.append(which)
        pairs = zip(net(pictures)[1].values(), targets, strict=True)
        smoothing = [0.05] * len(sizes) + [SHARPNESS_SMOOTHING] * len(extra)
        return sum(
            F.cross_entropy(guess, target, label_smoothing=share)
            for (guess, target), share in zip(pairs, smoothing, strict=True)
        )

    fit(net, attribute_loss, len(images), recipe["images"], BATCH, rng, f"{name} attributes")
    if sides:
        net.heads.pop("softened")
    tensors = {f"net.{key}": value for key, value in net.state_dict().items()}
    vocabulary: list[str] = []
    if recipe["captions"]:
        vocabulary = sorted({word for caption in captions for word in split_words(caption)})
        clip = JudgeClip(vocab=vocabulary, **recipe["shape"])

        def clip_loss(chosen: Tensor) -> Tensor:
            pictures = jitter(images[chosen], rng, **recipe["jitter"])
            return clip.loss(pictures, [captions[i] for i in chosen.tolist()])

        fit(clip, clip_loss, len(images), recipe["images"], CLIP_BATCH, rng, f"{name} captions")
        tensors |= {f"clip.{key}": value for key, value in clip.state_dict().items()}
    facts = {
        "reference": reference,
        "resolution": resolution,
        "attributes": sizes,
        "seed": SEED + index,
    }
    facts |= {"vocabulary": vocabulary, "training_pictures": len(images), **recipe["shape"]}
    path = folder / FILES[reference][resolution]
    save_file({k: v.half().contiguous() for k, v in tensors.items()}, path, {"judge": json.dumps(facts)})
    print(f"{path}: {path.stat().st_size / 2**20:.2f} MiB, {time.process_time() - started:.0f} CPU s")
    show(Judge(path))


def show(judge: Judge) -> None:
    """Prints what the judge says about real pictures that it never saw."""
    splits = ("test",) if judge.reference == "digits" else ("held_out", "test")
    for split in splits:
        for side in (judge.resolution, judge.resolution // 2):
            images, attributes, captions = read_source(judge.reference, side, split)
            print(split, f"{side} px:", judge.accuracy(images, attributes))
            if judge.clip is not None:
                print(split, "retrieval at 1:", judge.retrieval_at_1(images, attributes, captions))
    images, attributes, _ = read_source(judge.reference, judge.resolution, "test")
    print("test pictures as if generated:", judge.report(images, attributes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("references", nargs="*", help="data sets; those of the package by default")
    parser.add_argument("--resolution", type=int, help="only judges of this side; of every side by default")
    default = Path(__file__).parents[1] / "sgxl_t/metrics/judges/assets"
    parser.add_argument("--out", type=Path, default=default, help="folder for the files")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    chosen = [
        (reference, resolution)
        for reference, resolution in RECIPES
        if reference in (arguments.references or JUDGE_FILES) and arguments.resolution in (None, resolution)
    ]
    if not chosen or set(arguments.references) - set(FILES):
        known = ", ".join(f"{reference} at {resolution} px" for reference, resolution in RECIPES)
        parser.error(f"there is no such judge: there are {known}")
    for reference, resolution in chosen:
        make(reference, resolution, arguments.out)


if __name__ == "__main__":
    main()
