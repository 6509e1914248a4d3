"""Numbers of a run as they arise: stats.jsonl, TensorBoard events, one log line per tick."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sgxl_t.files.untrusted import read_json_lines
from sgxl_t.files.whole import whole_file


class Tracker:
    """Writes one JSON line per tick, and scalars and pictures for TensorBoard.

    On resume, lines past the checkpoint are dropped so that no tick stands twice.
    """

    def __init__(self, folder: Path, *, images_seen: int, tensorboard: bool) -> None:
        self.path = folder / "stats.jsonl"
        kept = [line for line in read_stats(self.path) if line["images"] <= images_seen]
        with whole_file(self.path) as aside:
            aside.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self.writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=images_seen)

    def scalars(self, line: dict[str, float]) -> None:
        """line: name to number, with `images` as the position."""
        with self.path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        if self.writer:
            for name, value in line.items():
                self.writer.add_scalar(name, value, int(line["images"]))

    def picture(self, name: str, picture: Tensor, images_seen: int) -> None:
        """picture: [3, H, W] uint8."""
        if self.writer:
            self.writer.add_image(name, picture, images_seen)

    def close(self) -> None:
        """Flushes the event file."""
        if self.writer:
            self.writer.close()


def read_stats(path: Path) -> list[dict[str, float]]:
    """All whole lines of a stats file; one that a crash cut, or that holds other things, is left out."""
    if not path.exists():
        return []
    lines = [entry.raw for entry in read_json_lines(path)]
    return [line for line in lines if isinstance(line, dict) and _holds_numbers(line)]


def _holds_numbers(line: dict[str, object]) -> bool:
    """Whether all values are numbers, and `images` says where they stand."""
    plain = all(
        isinstance(value, float) or (type(value) is int and abs(value) < 2**63) for value in line.values()
    )
    return plain and 0 <= line.get("images", -1) < 2**63  # type: ignore[operator]


def newest_numbers(stats: Sequence[dict[str, float]]) -> dict[str, float]:
    """The newest value of every number; ticks and snapshots write lines of their own."""
    return {name: value for line in stats for name, value in line.items()}
