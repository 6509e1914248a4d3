"""`--dry-run`: the memory that a configuration would need in every launch mode, as a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sgxl_t.files.terminal import say_lines
from sgxl_t.networks.configs import GeneratorConfig
from sgxl_t.training.memory.estimate import StepBytes, estimate_step
from sgxl_t.training.memory.launch_modes import FLOAT, NAMES, Share, launch_file, refusal, share
from sgxl_t.training.memory.networks import Planned
from sgxl_t.training.progressive.planner import Stage

PLAIN_PROCESSES, PLAIN_PRECISION = 8, "bf16"
"""What is shown where no launcher says how many processes there are."""
GIB = 2**30
COLUMNS = ("weights", "frozen", "EMA", "optimiser", "gradients", "buckets", "activations", "total")
NAME_WIDTH = 27
LEGEND = """\
weights: generator, heads, own text encoder. frozen: feature networks, encoders, guides. EMA: moving averages.
optimiser: Adam's two moments, and ZeRO's own copies of weights. buckets: gradients on their way between
processes, and gathered weights. activations: what the backward pass waits for, the batch, and working memory,
in the phase that needs most: g generator, pl path lengths, d discriminator.
Not counted: the device's own context, workspaces of its libraries, fragments, metrics and samples."""


@dataclass(frozen=True)
class Launch:
    """How the command was started: processes, their precision, whether a launcher started them, and whether
    they work on GPUs."""

    processes: int
    precision: str
    launched: bool
    gpu: bool = True


def print_report(stages: Sequence[Stage]) -> None:
    """Prints the table once, whatever the number of processes; ValueError for what cannot be sized."""
    if os.environ.get("RANK", "0") == "0":
        say_lines(report(stages, launch()))


def launch() -> Launch:
    """From the environment, as launchers leave it."""
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION")
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if precision is None and world_size == 1:
        return Launch(PLAIN_PROCESSES, PLAIN_PRECISION, launched=False)
    processes = world_size if world_size > 1 else PLAIN_PROCESSES
    launched = world_size > 1
    return Launch(processes, precision or "no", launched, gpu=not launched or torch.cuda.is_available())


def report(stages: Sequence[Stage], started: Launch) -> str:
    """The whole text. Stages of equal needs share a table."""
    groups: dict[str, list[str]] = {}
    notes: dict[str, None] = {}
    for stage in stages:
        table, found = _table(stage, started)
        groups.setdefault(table, []).append(stage.label)
        notes.update(dict.fromkeys(found))
    tables = [f"{_stage_names(labels)}{table}" for table, labels in groups.items()]
    return "\n\n".join(["\n".join([_opening(started), *notes]), *tables, LEGEND])


def _opening(started: Launch) -> str:
    precision = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}.get(
        started.precision, started.precision
    )
    words = [
        "Memory of each process in GiB, estimated from shapes: nothing was trained, written or downloaded.",
        f"Modes of several processes are for {started.processes} of them"
        f"{' on GPUs' if started.gpu else ' on a CPU'}, activations in {precision}"
        + ("." if started.launched else " (start it through accelerate launch to choose these)."),
    ]
    return "\n".join(words)


def _stage_names(labels: list[str]) -> str:
    if labels == [""]:
        return ""
    return f"{'stage' if len(labels) == 1 else 'stages'} {', '.join(labels)}: "


def planned(stage: Stage) -> Planned:
    """What an estimate of a stage is made from."""
    config, below = stage.config, stage.below
    grows = below[1] if below is not None and config.stem is not None else None
    return Planned(config.network_settings(), config.data, config.folder() / "features", grows)


def _table(stage: Stage, started: Launch) -> tuple[str, tuple[str, ...]]:
    """The rows of one stage or run, and what had to be assumed."""
    config = stage.config
    needs: dict[tuple[int, bool], StepBytes] = {}
    rows = [" " * NAME_WIDTH + "".join(f"{name:>{len(name) + 2}}" for name in COLUMNS)]
    for mode, name in NAMES.items():
        world_size = 1 if mode == "single" else started.processes
        reason = refusal(config.objective, mode, started.precision)
        if reason is not None:
            rows.append(f"{name:{NAME_WIDTH}}  refused: {reason}")
            continue
        rounds, images = config.rounds(world_size), config.round_images(world_size)
        key = images, rounds == 1
        if key not in needs:
            needs[key] = estimate_step(
                planned(stage),
                images,
                one_round=rounds == 1,
                precision=started.precision,
                gpu=started.gpu,
            )
        part = share(needs[key], mode, world_size, rounds)
        rows.append(_row(name, part, launch_file(mode, world_size)))
    rounds = config.rounds(started.processes)
    step = needs[config.round_images(started.processes), rounds == 1]
    return "\n".join([_title(config.generator, step, rounds), *rows]), step.notes


def _title(generator: GeneratorConfig, step: StepBytes, rounds: int) -> str:
    trained = sum(network.trained for network in step.networks.values()) / FLOAT
    frozen = ", ".join(f"{name} {_gib(size)}" for name, size in step.frozen.items())
    return (
        f"{generator.family} of {step.parameters / 1e6:,.1f} M parameters at {generator.img_resolution} px, "
        f"{trained / 1e6:,.1f} M learn, {rounds} round(s) of {step.images} images\nfrozen: {frozen}"
    )


def _row(name: str, part: Share, file: str) -> str:
    numbers = (
        part.weights,
        part.frozen,
        part.ema,
        part.optimizer,
        part.gradients,
        part.transit,
        part.maps,
        part.total,
    )
    cells = "".join(
        f"{_gib(value):>{len(column) + 2}}" for value, column in zip(numbers, COLUMNS, strict=True)
    )
    host = f", {_gib(part.host)} in the host's memory" if part.host else ""
    return f"{name:{NAME_WIDTH}}{cells}  ({part.phase}) {file}{host}".rstrip()


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"
