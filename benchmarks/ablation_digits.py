"""Ablates the class recipe on handwritten digits, a row per step of StyleGAN-XL's table 1.

    python benchmarks/ablation_digits.py [--kimg 12] [--seeds 3] [--diversity 0.1] [--out ablation]

Each row adds one thing to the row above: a latent of 64 instead of 512 numbers, a class table from
pretrained features instead of a random one, a vision transformer beside the CNN in the discriminator,
classifier guidance. All rows have mode seeking, which `--diversity 0` switches off. All runs show equally
many images at 16 px with the same rates. The packaged judge, which trained none of them, measures 1,440
images, psi 1, digit after digit in turn. Runs that are done are not repeated: the same command goes on after
a break.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torchvision.transforms.functional import pil_to_tensor

from sgxl_t.datasets.open import open_source
from sgxl_t.metrics.judges.judges import load_judge
from sgxl_t.networks.backbones.precision import cpu_gains_by_bf16
from sgxl_t.networks.frozen import load_feature_network
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.training.local_features.train import train_features

BASE = {
    "cond": "class",
    "data.source": "digits",
    "generator.family": "stylegan3",
    "generator.stylegan3.num_layers": 5,
    "generator.stylegan3.channel_base": 2048,
    "generator.stylegan3.conv_clamp": "null",
    "optimizer.g_lr": 0.01,
    "optimizer.d_lr": 0.004,
    "optimizer.final_lr_share": 0.2,
    "batch.images": 16,
    "ema.half_life_kimg": 3,
    "schedule.snapshot_kimg": 1000,
    "schedule.snapshot_minutes": "null",
    "schedule.checkpoint_kimg": 1000,
    "log.track_images": 0,
    "log.tensorboard": "false",
    "log.progress": "false",
}
CLASSES, SEEDS_PER_CLASS = 10, 144
FIGURES = ("accuracy", "frechet_over_floor", "frechet_all", "precision", "recall")


@dataclass(frozen=True)
class Row:
    """One line of the table: what it adds, and the settings that do so."""

    name: str
    change: dict[str, Any]


def rows(features: Path, table: Path, guidance: float) -> list[Row]:
    """The recipe step by step; every row keeps the changes of those above it."""
    cnn, vit = f"local:{features / 'cnn'}", f"local:{features / 'vit'}"
    first = {
        "generator.z_dim": 512,
        "conditioning.class_table": str(table),
        "discriminator.features": f"[{cnn}]",
    }
    return [
        Row("z of 512, random classes, CNN", first),
        Row("+ z of 64", {"generator.z_dim": 64}),
        Row(
            "+ pretrained classes",
            {"conditioning.class_table": "null", "conditioning.class_features": cnn},
        ),
        Row("+ transformer features", {"discriminator.features": f"[{cnn},{vit}]"}),
        Row("+ guidance", {"objective.cls_weight": guidance, "conditioning.classifier": cnn}),
    ]


def main() -> None:
    """Trains what is missing, measures everything, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kimg", type=float, default=12, help="length of every run")
    parser.add_argument("--seeds", type=int, default=3, help="runs per row")
    parser.add_argument("--guidance", type=float, default=0.1, help="objective.cls_weight of the last row")
    parser.add_argument("--diversity", type=float, default=0.1, help="objective.diversity_weight of all rows")
    parser.add_argument("--out", type=Path, default=Path("ablation"), help="folder of runs and tables")
    options = parser.parse_args()
    features = shared_features(options.out)
    table = random_table(features, options.out / "random_classes.npy")
    results = []
    for seed in range(options.seeds):
        settings = {**BASE, "schedule.kimg": options.kimg, "seed": seed}
        settings["objective.diversity_weight"] = options.diversity
        for number, row in enumerate(rows(features, table, options.guidance)):
            settings |= row.change
            folder = options.out / f"row{number}-seed{seed}"
            train(folder, settings)
            results.append({"row": row.name, "seed": seed, **measured(folder / "last")})
            write_tables(pd.DataFrame(results), options.out)


def shared_features(out: Path) -> Path:
    """Feature networks that all runs share, trained once: out/features with cnn/ and vit/."""
    folder = out / "features"
    if not (folder / "report.json").is_file():
        train_features(open_source("digits", resolution=16), folder, kinds=("cnn", "vit"))
    return folder


def random_table(features: Path, path: Path) -> Path:
    """Rows of unit normal numbers, as wide as those of the CNN's class table."""
    width = load_feature_network(f"local:{features / 'cnn'}").embed_dim
    np.save(path, np.random.default_rng(0).standard_normal((CLASSES, width), dtype=np.float32))
    return path


def train(folder: Path, settings: dict[str, Any]) -> None:
    """One run in a process of its own; goes on where it stands, and does nothing when it is done."""
    if (folder / "last" / "config.json").is_file():
        return
    flags = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    launch = ["--num_processes", "1", "--num_machines", "1", "--dynamo_backend", "no", "--cpu"]
    precision = "bf16" if cpu_gains_by_bf16() else "no"
    launch += ["--mixed_precision", precision, "--module", "sgxl_t.training.train"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, "--run-dir", str(folder), *flags]
    subprocess.run(command, check=True, env={"OMP_NUM_THREADS": "1", **os.environ})


def measured(model: Path) -> dict[str, float]:
    """What the judge says of a model; the same seeds and classes for every one."""
    labels = list(range(CLASSES)) * SEEDS_PER_CLASS
    generated = Pipeline.from_pretrained(model).pairs(labels, range(len(labels)), batch_size=64)
    images = torch.stack([pil_to_tensor(one.image) for one in generated])
    report = load_judge("digits").report(images, torch.tensor(labels))
    return {
        "accuracy": report["accuracy"]["all"],
        "frechet_over_floor": report["frechet"] / report["frechet_floor"],
        "frechet_all": report["frechet_all"],
        "precision": report["precision"],
        "recall": report["recall"],
    }


def write_tables(results: pd.DataFrame, out: Path) -> None:
    """runs.csv with every run, table.md with means and ranges over seeds; prints the table."""
    results.to_csv(out / "runs.csv", index=False)
    lines = ["| | runs | " + " | ".join(FIGURES) + " |", "|---|--:|" + "--:|" * len(FIGURES)]
    for name, runs in results.groupby("row", sort=False):
        cells = [f"{runs[f].mean():.3f} ({runs[f].min():.3f} to {runs[f].max():.3f})" for f in FIGURES]
        lines.append(f"| {name} | {len(runs)} | " + " | ".join(cells) + " |")
    table = "\n".join(lines)
    (out / "table.md").write_text(table + "\n")
    print(table, flush=True)


if __name__ == "__main__":
    main()
