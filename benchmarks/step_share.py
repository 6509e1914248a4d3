"""What an update of training spends its time on: networks, optimiser, average, data, everything else.

    OMP_NUM_THREADS=1 python benchmarks/step_share.py configs/debug/class.yaml configs/debug/chain.yaml:64

A configuration with stages takes one by name behind a colon. The real trainer makes `--warmup` updates and
then `--updates` measured ones. Clocks stand around the calls of each part, in CPU time of the process, so
that other load on the machine counts less; what is inside of another part counts there alone. `glue` is what
is left of a forward and backward pass beside them: latents, the release of the graph. Path lengths are made
to occur in every other update where the configuration has them at all, and local feature networks are trained
for a few seconds only. Ticks and snapshots are left out: they are not part of an update.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sgxl_t.training.build_trainer import build_trainer
from sgxl_t.training.config.config import TrainConfig
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.loop.trainer import Trainer
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.progressive.planner import plan_run

NETWORKS = ("generator", "features", "heads", "guides", "losses", "backward", "conditions", "glue")
OUTSIDE = ("data", "statistics", "average", "records", "rest")
COLUMNS = (*NETWORKS, "optimiser", *OUTSIDE)


class Clock:
    """Own time of nested parts, in seconds."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = time.process_time()

    def _lap(self) -> None:
        now = time.process_time()
        if self._open:
            self.spent[self._open[-1]] += now - self._since
        self._since = now

    def around(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, whose own time counts for a part."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._lap()
            self._open.append(part)
            try:
                return call(*args, **kwargs)
            finally:
                self._lap()
                self._open.pop()

        return timed


def attach(clock: Clock, trainer: Trainer) -> None:
    """Puts the clock around the parts of a trainer."""
    state, objective = trainer.state, trainer.objective

    def wrap(owner: Any, name: str, part: str) -> None:
        setattr(owner, name, clock.around(part, getattr(owner, name)))

    # The instance's own `forward` is what a module calls.
    for network, part in ((state.g.raw, "generator"), (state.features, "features"), (state.d.raw, "heads")):
        wrap(network, "forward", part)
    for name in ("g_loss", "d_loss", "pl_loss"):
        wrap(objective, name, "losses")
    objective.guidance = clock.around("guides", objective.guidance)  # type: ignore[assignment]
    for network in state.networks.values():
        wrap(network, "backward", "backward")
        wrap(network, "step", "optimiser")
    for name in ("encode_frozen", "encode"):
        wrap(state.condition, name, "conditions")
    wrap(trainer, "_average", "average")
    wrap(trainer, "next_batches", "data")
    wrap(trainer.callbacks, "loss", "records")
    for name in ("_flat", "_fill", "_put_together"):
        wrap(trainer.statistics, name, "statistics")
    wrap(trainer, "_learn", "glue")
    wrap(trainer, "update", "rest")


def measure(config: TrainConfig, *, warmup: int, updates: int) -> dict[str, float]:
    """Share of every part in the time of an update, 0 to 1, and `seconds` of one; medians over updates."""
    trainer = build_trainer(config, Runtime(deterministic=False), config.folder())
    trainer.begin()
    trainer.data.open(trainer.state)
    clock = Clock()
    attach(clock, trainer)
    rows: list[dict[str, float]] = []
    for _ in range(warmup + updates):
        clock.spent.clear()
        trainer.update(trainer.next_batches())
        rows.append(dict(clock.spent))
    trainer.data.close()
    # Updates differ (path lengths), so their sums are compared, of two at a time.
    pairs = list(zip(rows[warmup::2], rows[warmup + 1 :: 2], strict=False))
    sums = [{part: a.get(part, 0.0) + b.get(part, 0.0) for part in COLUMNS} for a, b in pairs]
    shares = {part: statistics.median(row[part] / sum(row.values()) for row in sums) for part in COLUMNS}
    return {**shares, "seconds": statistics.median(sum(row.values()) / 2 for row in sums)}


def configuration(reference: str, folder: Path) -> tuple[str, TrainConfig]:
    """FILE or FILE:STAGE as a run in `folder` that records nothing."""
    file, _, stage = reference.partition(":")
    arguments = ["--config", file, "--run-dir", str(folder), "--log.track_images", "0"]
    arguments += ["--log.progress", "false", "--conditioning.feature_seconds", "4"]
    config = parse_config([*arguments, *(["--stage", stage] if stage else [])])
    if config.stages:
        (one,) = plan_run(config).wanted()
        config = one.config
        # It begins without the stage below it, whose weights do not matter here.
        config = replace(config, stem=None, start=None, run_dir=str(folder))
        config = replace(config, objective=replace(config.objective, stem_weight=0.0))
    objective = config.objective
    if objective.pl_weight > 0:
        objective = replace(objective, pl_interval=2, pl_start_kimg=0)
    return f"{Path(file).stem}{f' {stage}' if stage else ''}", replace(config, objective=objective)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--updates", type=int, default=8)
    options = parser.parse_args()
    print("| run | ms | " + " | ".join(COLUMNS) + " | outside | with optimiser |")
    print("|---" * (len(COLUMNS) + 4) + "|")
    for reference in options.configs:
        with tempfile.TemporaryDirectory() as folder:
            name, config = configuration(reference, Path(folder))
            shares = measure(config, warmup=options.warmup, updates=options.updates)
        outside = sum(shares[part] for part in OUTSIDE)
        cells = [shares[part] for part in COLUMNS] + [outside, outside + shares["optimiser"]]
        shown = " | ".join(f"{100 * share:.1f}" for share in cells)
        print(f"| {name} | {shares['seconds'] * 1e3:.0f} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
