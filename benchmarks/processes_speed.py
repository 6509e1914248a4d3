"""Images per second of two processes with one thread each against one process with two threads.

    python benchmarks/processes_speed.py --turns 3

Both train the same small text configuration for the same images, in turns, so that both see the same load;
printed are the medians of the ticks (without the first) and the ratio. --mode adds a back end for the two
processes (ddp, zero2); on a machine with one GPU, --mode zero2 --processes 1 compares one ZeRO-2 process with
a plain one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODES = {
    "plain": {},
    "ddp": {},
    "zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
}


def speed(folder: Path, features: Path, *, processes: int, threads: int, mode: str, options) -> float:
    """Median images per second over the ticks of one short run."""
    from sgxl_t.training.callbacks.stats_file import read_stats

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [
        "--nproc_per_node",
        str(processes),
        "scripts/train.py",
        "--cond",
        "text",
        "--run-dir",
        str(folder),
    ]
    for name, kind in {"discriminator.features": "cnn", "conditioning.text_encoder": "clip"}.items():
        reference = f"local:{features / kind}"
        command += [f"--{name}", f"['{reference}']" if name.endswith("features") else reference]
    command += ["--schedule.kimg", str(options.kimg), "--schedule.tick_kimg", str(options.kimg / 5)]
    command += ["--schedule.snapshot_kimg", "1000", "--schedule.checkpoint_kimg", "1000"]
    command += ["--schedule.snapshot_minutes", "null"]
    command += ["--log.progress", "false", "--log.tensorboard", "false", "--log.track_images", "0"]
    precision = {"ACCELERATE_MIXED_PRECISION": options.precision}
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **MODES[mode], **precision}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    lines = read_stats(folder / "stats.jsonl")
    ticks = [line["images_per_second"] for line in lines if "images_per_second" in line]
    return statistics.median(ticks[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--kimg", type=float, default=2.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--mode", choices=[name for name in MODES if name != "plain"], default="ddp")
    parser.add_argument("--precision", choices=["no", "bf16"], default="no")
    options = parser.parse_args()
    from sgxl_t.datasets.open import open_source
    from sgxl_t.training.local_features.train import train_features

    with tempfile.TemporaryDirectory() as place:
        features = Path(place) / "features"
        source = open_source("emoji-scenes:24x8", resolution=32)
        train_features(source, features, kinds=("cnn", "clip"), seconds=20, seed=0, progress=False)
        found: dict[str, list[float]] = {"one": [], "several": []}
        for turn in range(options.turns):
            threads = {"one": options.processes, "several": 1}
            for name, count, mode in (("one", 1, "plain"), ("several", options.processes, options.mode)):
                folder = Path(place) / f"{name}{turn}"
                value = speed(
                    folder, features, processes=count, threads=threads[name], mode=mode, options=options
                )
                found[name].append(value)
                print(f"turn {turn}: {name:8} {value:8.1f} images/s", flush=True)
        one, several = (statistics.median(found[name]) for name in ("one", "several"))
        print(f"{options.processes} x {options.mode} against one process: {several / one:.2f}")


if __name__ == "__main__":
    main()
