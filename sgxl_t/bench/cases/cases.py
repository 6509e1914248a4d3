"""The list of cases: names, sizes, batches."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from sgxl_t.bench.cases.workloads import (
    Workload,
    conv_workload,
    filter_workload,
    generator_workload,
    layer_workload,
)

MODES = ("forward", "forward_backward")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

FILTERS = {
    (38, 82, 36): 1024,
    (54, 114, 52): 1024,
    (38, 114, 52): 1024,
    (86, 178, 84): 1024,
    (150, 306, 148): 861,
}
"""Sides of the filtered leaky ReLU and the channels of the first ImageNet layer that has them.

With fewer channels the plain form's copies would stay in the last cache, which they never do in a network.
"""
CONVOLUTIONS = (36, 52, 84)


@dataclass(frozen=True)
class Case:
    """One name: build(batch, device) gives the workload.

    operator: compared by the largest value instead of the Euclidean norm. heavy: only when asked by name.
    """

    name: str
    resolution: int
    build: Callable[[int, torch.device], Workload]
    batches: tuple[int, ...] = (1,)
    modes: tuple[str, ...] = MODES
    operator: bool = False
    heavy: bool = False


def _filter(sides: tuple[int, int, int], channels: int, suffix: str = "") -> Case:
    name = f"filtered_lrelu-{'-'.join(map(str, sides))}-c{channels}{suffix}"
    build = partial(filter_workload, sides, channels)
    return Case(name, sides[2], build, operator=True)


def _convolution(side: int, channels: int, suffix: str = "") -> Case:
    build = partial(conv_workload, side, channels)
    return Case(f"modulated_conv_sg3-{side}-c{channels}{suffix}", side, build, operator=True)


def _layer(sides: tuple[int, int, int], channels: int, batches: tuple[int, ...], suffix: str = "") -> Case:
    name = f"sgxl-layer-{'-'.join(map(str, sides))}-c{channels}{suffix}"
    return Case(name, sides[2], partial(layer_workload, sides, channels), batches)


def _generator(model: str, *, suffix: str = "", **options: object) -> Case:
    side = int(model.rsplit("-", 1)[1])
    build = partial(generator_workload, model)
    return Case(model + suffix, side, build, **options)  # type: ignore[arg-type]


def full_cases() -> list[Case]:
    """Everything, operators first: they explain the networks."""
    both = (1, 4)
    return [
        *(_filter(sides, channels) for sides, channels in FILTERS.items()),
        *(_convolution(side, 1024) for side in CONVOLUTIONS),
        _layer((38, 82, 36), 1024, both),
        *(_generator(f"sgxl-imagenet-{side}", batches=both) for side in (16, 32, 64)),
        _generator("sgxl-imagenet-256", heavy=True),
        *(_generator(f"sgt-lite-{side}", batches=both) for side in (64, 256)),
        # Weights and gradients of the large one fill 8 GB twice.
        _generator("sgt-full-64", batches=both, modes=("forward",)),
    ]


def quick_cases() -> list[Case]:
    """The same kinds with few channels, done in a minute; ratios grow with the widths."""
    mark = "-quick"
    return [
        _filter((38, 82, 36), 32, mark),
        _filter((38, 114, 52), 32, mark),
        _convolution(36, 64, mark),
        _layer((38, 82, 36), 64, (1, 4), mark),
        _generator("sgxl-tiny-16", batches=(1, 4), suffix=mark),
        _generator("sgt-tiny-32", batches=(1, 4), suffix=mark),
    ]


def find_cases(quick: bool, patterns: Sequence[str] = ()) -> list[Case]:
    """Cases whose names fit one of the shell patterns; ValueError for one that fits none.

    Without patterns all but heavy cases.
    """
    cases = quick_cases() if quick else full_cases()
    if not patterns:
        return [case for case in cases if not case.heavy]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(case.name, pattern) for case in cases):
            names = ", ".join(case.name for case in cases)
            raise ValueError(f"--only {pattern} fits no case: use a name or pattern of {names}")
    return [case for case in cases if any(fnmatch.fnmatchcase(case.name, p) for p in patterns)]
