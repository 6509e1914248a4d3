"""Times the Frechet distance against other forms of it, and a whole FID pass, features apart.

    python benchmarks/metrics_speed.py [--dim 2048] [--rows 8000] [--repeats 3] [--pass-rows N] [--json FILE]

First all forms must agree to 1e-6 relative; then they take turns in one process, so that a busy machine slows
all of them, and the ratios compare their best times. The pass runs in a process of its own, which shows its
memory. Needs scipy and torch-fidelity (`pip install 'sgxl-t[dev,metrics]'`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_statistics_to_metric

from sgxl_t.metrics.distances.feature_statistics import FeatureStatistics
from sgxl_t.metrics.distances.frechet import covariance_root, frechet_from_statistics

AGREEMENT = 1e-6
BATCH = 64
"""Rows that an extractor hands over at a time in the pass."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, default=2048, help="features")
    parser.add_argument("--rows", type=int, default=8000, help="rows of either side, more than features")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each form")
    parser.add_argument("--pass-rows", type=int, default=50_000, help="rows of the pass")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        figures = pool.apply(time_pass, (options.pass_rows, options.dim))
    print_pass(figures)
    forms = compare_forms(options.rows, options.dim, options.repeats)
    if options.json:
        result = {"machine": platform.machine(), "threads": torch.get_num_threads()}
        options.json.write_text(json.dumps({**result, "pass": figures, "forms": forms}, indent=1) + "\n")


def features(rows: int, mix: Tensor, seed: int, batch: int) -> Iterator[Tensor]:
    """Batches of rectified, correlated features, float32 [batch, D], the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, rows, batch):
        noise = torch.randn(min(batch, rows - start), len(mix), generator=generator)
        yield (noise @ mix + 0.1 * seed).relu_()


def mixing(dim: int) -> Tensor:
    """A random matrix [D, D] that correlates features, with falling strengths as in networks."""
    generator = torch.Generator().manual_seed(99)
    strengths = torch.linspace(0, -3, dim).exp()
    return torch.randn(dim, dim, generator=generator) * strengths[:, None] / dim**0.5


def statistics(rows: int, dim: int, seed: int) -> FeatureStatistics:
    result = FeatureStatistics(dim)
    for batch in features(rows, mixing(dim), seed, 512):
        result.update(batch)
    return result


def compare_forms(rows: int, dim: int, repeats: int) -> list[dict[str, Any]]:
    """States equality, then lets the forms take turns."""
    real, fake = statistics(rows, dim, 0), statistics(rows, dim, 1)
    root = covariance_root(real)
    mu = [side.mean.numpy() for side in (real, fake)]
    sigma = [side.covariance().numpy() for side in (real, fake)]
    stats = [{"mu": m, "sigma": s} for m, s in zip(mu, sigma, strict=True)]

    def by_sqrtm() -> float:
        cross = np.trace(scipy.linalg.sqrtm(sigma[0] @ sigma[1])).real
        difference = mu[0] - mu[1]
        return float(difference @ difference + np.trace(sigma[0]) + np.trace(sigma[1]) - 2 * cross)

    forms: dict[str, Callable[[], float]] = {
        "this package": lambda: frechet_from_statistics(real, fake),
        "this package, root kept": lambda: frechet_from_statistics(real, fake, real_root=root),
        "torch-fidelity": lambda: fid_statistics_to_metric(*stats, False)["frechet_inception_distance"],
        "scipy sqrtm": by_sqrtm,
    }
    times: dict[str, list[float]] = {name: [] for name in forms}
    values: dict[str, float] = {}
    for _ in range(repeats):
        for name, form in forms.items():
            start = time.perf_counter()
            values[name] = form()
            times[name].append(time.perf_counter() - start)
    return report(values, times, dim)


def report(values: dict[str, float], times: dict[str, list[float]], dim: int) -> list[dict[str, Any]]:
    """Prints one line a form; RuntimeError where they disagree."""
    ours = next(iter(values))
    result = []
    print(f"\nFrechet distance, D={dim}, {torch.get_num_threads()} threads, {len(times[ours])} turns")
    for name, value in values.items():
        error = abs(value / values[ours] - 1)
        if error > AGREEMENT:
            raise RuntimeError(f"{name} gives {value!r} and {ours} {values[ours]!r}: they must agree")
    for name, value in values.items():
        best, ratio = min(times[name]), min(times[name]) / min(times[ours])
        spread = max(times[name]) / best - 1
        error = abs(value / values[ours] - 1)
        print(
            f"  {name:26}{best:9.3f} s  {ratio:6.2f} x {ours}  spread {spread:4.0%}  differs by {error:.0e}"
        )
        result.append({"form": name, "s": best, "ratio": ratio, "spread": spread, "error": error})
    return result


def time_pass(rows: int, dim: int) -> dict[str, float]:
    """A whole pass: moments of `rows` features in batches, then the distance to a known real side."""
    mix, real = mixing(dim), statistics(2 * dim, dim, 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fake = FeatureStatistics(dim)
    update = 0.0
    for batch in features(rows, mix, 1, BATCH):
        start = time.perf_counter()
        fake.update(batch)
        update += time.perf_counter() - start
    start = time.perf_counter()
    value = frechet_from_statistics(real, fake)
    distance = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kib = 2**20
    return {
        "rows": rows,
        "dim": dim,
        "threads": torch.get_num_threads(),
        "update_s": update,
        "distance_s": distance,
        "total_s": update + distance,
        "before_gib": before / kib,
        "peak_gib": peak / kib,
        "value": value,
    }


def print_pass(figures: dict[str, float]) -> None:
    print("Pass over {rows:,} x {dim} features in batches, {threads} threads".format(**figures))
    print("  moments {update_s:.1f} s + distance {distance_s:.1f} s = {total_s:.1f} s".format(**figures))
    print("  peak {peak_gib:.2f} GiB, of which {before_gib:.2f} before the pass".format(**figures))


if __name__ == "__main__":
    main()
