"""Times the shard loader against plain Pillow on the same JPEGs, and follows its memory.

    python benchmarks/shards_speed.py [--samples 6000] [--shards 12] [--repeats 5] [--turn 600]
        [--memory-samples 20000] [--json FILE]

Writes img2dataset-style shards (512 px JPEG, txt, json) in two subsets to a temporary folder. Plain Pillow
opens, decodes and resizes the same files to 64 px with Lanczos, from memory, and makes uint8 arrays; the
loader reads tar files, shuffles, decodes, picks captions and makes batches. They take turns in one process on
one core, so that a busy machine slows all of them; a ratio is of one turn, and the median counts.
Then one loader streams many samples while its resident memory is noted.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import tarfile
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from sgxl_t.datasets import BatchOptions, batches, open_source
from sgxl_t.datasets.shards.source import ShardOptions

SIDE, TARGET, BATCH = 512, 64, 50
DISTINCT = 200
"""Different pictures; more samples use them again."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=6000, help="samples in all shards together")
    parser.add_argument("--shards", type=int, default=12, help="shards in both subsets together")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each reader")
    parser.add_argument("--turn", type=int, default=600, help="pictures of a turn, a multiple of 50")
    parser.add_argument("--memory-samples", type=int, default=20_000, help="pictures of the memory run")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = pictures(DISTINCT)
        write_subsets(root, files, options.samples, options.shards)
        members = 3 * options.samples
        size = sum(map(len, files)) / len(files) / 1024
        print(f"{options.samples} samples, {members} members, {options.shards} shards, {size:.0f} KiB a JPEG")
        speeds = compare(root, files, options.turn, options.repeats)
        memory = follow_memory(root, options.memory_samples)
    print_table(speeds, memory)
    if options.json:
        about = {"machine": platform.machine(), "samples": options.samples, "members": members}
        options.json.write_text(
            json.dumps({**about, "speeds": speeds, "memory_mib": memory}, indent=1) + "\n"
        )


def pictures(count: int) -> list[bytes]:
    """JPEGs of 512 px with smooth areas, edges and grain, about as large as photographs of that size."""
    draws, files = np.random.RandomState(0), []
    for _ in range(count):
        coarse = draws.randint(0, 256, (16, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        edges = Image.fromarray(draws.randint(0, 256, (64, 64, 3), dtype=np.uint8))
        edges = edges.resize((SIDE, SIDE), Image.Resampling.NEAREST).filter(ImageFilter.GaussianBlur(1))
        mixed = np.asarray(Image.blend(picture, edges, 0.25)).astype(np.int16)
        grain = draws.randint(-6, 7, mixed.shape)
        buffer = io.BytesIO()
        Image.fromarray((mixed + grain).clip(0, 255).astype(np.uint8)).save(buffer, "jpeg", quality=90)
        files.append(buffer.getvalue())
    return files


def write_subsets(root: Path, files: list[bytes], samples: int, shards: int) -> None:
    """Shards in root/a and root/b, as img2dataset writes them."""
    for shard in range(shards):
        folder = root / ("a" if shard % 2 == 0 else "b")
        folder.mkdir(exist_ok=True)
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number in range(shard, samples, shards):
                key = f"{shard:05d}{number:06d}"
                info = {
                    "caption": f"picture {number}",
                    "width": SIDE,
                    "height": SIDE,
                    "similarity": 0.3,
                    "key": key,
                }
                _add(tar, f"{key}.jpg", files[number % len(files)])
                _add(tar, f"{key}.txt", str(info["caption"]).encode())
                _add(tar, f"{key}.json", json.dumps(info).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))


def plain_pillow(files: list[bytes]) -> Iterator[np.ndarray]:
    """Decode and resize, nothing else; uint8 [64, 64, 3]."""
    while True:
        for data in files:
            picture = Image.open(io.BytesIO(data)).convert("RGB")
            yield np.asarray(picture.resize((TARGET, TARGET), Image.Resampling.LANCZOS))


def loader(root: Path, *, draft: bool) -> Iterator[Any]:
    """Batches as training gets them, read in this process."""
    source = open_source(root, resolution=TARGET, shards=ShardOptions(fast_jpeg=draft))
    return batches(source, BatchOptions(batch_size=BATCH, seed=0))


def compare(root: Path, files: list[bytes], turn: int, repeats: int) -> dict[str, dict[str, float]]:
    """Pictures per second of each reader: median, slowest and fastest turn, and ratio to plain Pillow."""
    readers: dict[str, tuple[Iterator[Any], int]] = {
        "plain Pillow": (plain_pillow(files), turn),
        "loader, whole JPEGs": (loader(root, draft=False), turn // BATCH),
        "loader, draft JPEGs": (loader(root, draft=True), turn // BATCH),
    }
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for reader, count in readers.values():  # fills buffers and caches
        for _ in islice(reader, max(1, count // 10)):
            pass
    for _ in range(repeats):
        for name, (reader, count) in readers.items():
            began = time.perf_counter()
            for _ in islice(reader, count):
                pass
            rates[name].append(turn / (time.perf_counter() - began))
    base = rates["plain Pillow"]
    return {
        name: {
            "images_per_second": statistics.median(values),
            "slowest": min(values),
            "fastest": max(values),
            "ratio": statistics.median(one / plain for one, plain in zip(values, base, strict=True)),
        }
        for name, values in rates.items()
    }


def follow_memory(root: Path, samples: int) -> list[float]:
    """Resident MiB at ten points of one long stream, after the shuffle buffer has filled."""
    stream, marks = loader(root, draft=True), []
    for _ in islice(stream, 20):
        pass
    for _ in range(10):
        for _ in islice(stream, samples // BATCH // 10):
            pass
        marks.append(resident_mib())
    return marks


def resident_mib() -> float:
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def print_table(speeds: dict[str, dict[str, float]], memory: list[float]) -> None:
    print(f"{'reader':22} {'images/s':>9} {'slowest':>9} {'fastest':>9} {'ratio':>7}")
    for name, row in speeds.items():
        print(
            f"{name:22} {row['images_per_second']:9.0f} {row['slowest']:9.0f} {row['fastest']:9.0f} "
            f"{row['ratio']:7.2f}"
        )
    print("resident MiB along the stream: " + ", ".join(f"{value:.0f}" for value in memory))
    print(f"grown by {memory[-1] - memory[0]:.1f} MiB from the first mark to the last")


if __name__ == "__main__":
    main()
