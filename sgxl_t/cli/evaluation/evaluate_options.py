"""The options of `sgxl-t evaluate` as one value; imports nothing that takes time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED_STEP = 2**32
"""Distance of the seeds of repeats; image i has seed + i, so near seeds would share most images."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """One call of the command, field by field as click reads it; `sgxl-t evaluate --help` explains each."""

    targets: tuple[str, ...]
    data: str | None
    allow_pipe: bool
    split: str
    metrics: str
    preset: str | None
    psi: str | None
    seed: int
    repeats: int
    class_sampling: str
    prompts: str | None
    coco: str | None
    coco_seed: int | None
    batch_size: int
    device: str | None
    weights: tuple[str, ...]
    sha256: tuple[str, ...]
    cache: str | None
    json_file: str | None
    csv_file: str | None
    curve: str | None

    @property
    def json_path(self) -> Path | None:
        """The file that results are added to; None where they are printed or go nowhere."""
        return None if self.json_file in (None, "-") else Path(str(self.json_file))

    @property
    def output_files(self) -> list[Path]:
        """Every file that the call writes or adds to."""
        paths = [self.json_path, self.csv_file, self.curve]
        return [Path(path) for path in paths if path]

    @property
    def seeds(self) -> list[int]:
        """The seed of each repeat."""
        return [self.seed + repeat * SEED_STEP for repeat in range(self.repeats)]

    @property
    def measured(self) -> dict[str, Any]:
        """The options that make two calls the same evaluation, as JSON values."""
        names = "targets data split metrics preset psi seed repeats class_sampling prompts coco coco_seed"
        return {name: getattr(self, name) for name in (*names.split(), "weights", "sha256")}


def named_values(given: Sequence[str], option: str) -> dict[str, str]:
    """NAME=VALUE options as a table; ValueError for one without a name or a value."""
    found = dict(text.partition("=")[::2] for text in given)
    for name, value in found.items():
        if not name or not value:
            raise ValueError(f"{option} {name}: write NAME=VALUE, such as inception=inception.pth")
    return found
