"""Work of the main process that the others wait for, and that ends all of them where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sgxl_t.training import watchdog
from sgxl_t.training.checkpoint import newest_whole
from sgxl_t.training.disk import RunFolderError, refusal

if TYPE_CHECKING:
    from sgxl_t.training.runtime import Runtime


class ElsewhereError(Exception):
    """The main process has failed and says why itself."""


@contextmanager
def main_writes(runtime: Runtime, folder: Path, doing: str) -> Iterator[None]:
    """A block of which only the main process does the last part; all processes meet at its end.

    folder: the run. doing: the work in a few words. It may take long. Where files cannot be written, all
    processes raise RunFolderError; any other error is the main process's own, and the others raise
    ElsewhereError, so that nobody waits for a process that has gone.
    """
    failure: Exception | None = None
    watchdog.beat(doing, long=True)
    try:
        yield
    except Exception as error:
        failure = error
    reason = None if failure is None else refusal(failure, folder)
    if runtime.any(failure is not None):
        if runtime.any(reason is not None):
            raise RunFolderError(_sentence(folder, doing, reason) if reason else "") from None
        raise ElsewhereError if failure is None else failure
    watchdog.beat(f"after {doing}")


def _sentence(folder: Path, doing: str, reason: str) -> str:
    newest = newest_checkpoint(folder)
    kept = (
        f"its newest whole checkpoint is at {kimg_of(newest):g} kimg"
        if newest
        else "it has no checkpoint yet"
    )
    return (
        f"{folder} cannot be written for {doing} ({reason}); {kept}: make room there and give the same "
        "command again"
    )


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run, in its highest stage that has one; None where there is none."""
    stages = sorted(folder.glob("stage_*/checkpoints"), reverse=True)
    return next(filter(None, map(newest_whole, [folder / "checkpoints", *stages])), None)


def kimg_of(checkpoint: Path) -> float:
    """Thousand images at which a checkpoint folder was written, by its name."""
    return float(checkpoint.name.removeprefix("kimg_"))
