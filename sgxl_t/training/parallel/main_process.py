"""Work of the main process that the others wait for, and that ends all of them where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sgxl_t.training.checkpoint.checkpoint import newest_whole
from sgxl_t.training.checkpoint.disk import RunFolderError, advice, refusal
from sgxl_t.training.parallel import watchdog

if TYPE_CHECKING:
    from sgxl_t.training.parallel.runtime import Runtime


class ElsewhereError(Exception):
    """Another process has failed. The text says which and why, where nobody else on this machine does."""


@contextmanager
def on_main_process(runtime: Runtime, folder: Path, doing: str) -> Iterator[None]:
    """Around work of the main process, which all others wait for at the end of the block.

    All processes enter the block, as some of them may have to help with what is written. doing: the work in a
    few words; it may take long. If files cannot be written, or the run folder has gone, all processes raise
    RunFolderError. Any other error is raised by the process that has it and the others raise ElsewhereError,
    so that nobody waits for a process that has ended.
    """
    watchdog.beat(doing, long=True)
    lost = _lost(runtime)
    if runtime.any(lost is not None):
        raise RunFolderError(runtime.heard(lost))
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if runtime.any(failure is not None):
        sentence = None if failure is None else _lost(runtime) or _sentence(folder, doing, failure)
        if runtime.any(sentence is not None):
            raise RunFolderError(runtime.heard(sentence)) from None
        raise _ending(runtime, failure)
    watchdog.beat(f"after {doing}")


@contextmanager
def end_together(runtime: Runtime) -> Iterator[None]:
    """A block in which any process may fail: it raises its own error then, and the others ElsewhereError.

    Within the block, processes do not wait for each other.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if runtime.any(failure is not None):
        raise _ending(runtime, failure)


def refuse(runtime: Runtime, sentence: str) -> NoReturn:
    """Ends all processes for a reason that all know: ValueError on the first of each machine."""
    raise ValueError(sentence) if runtime.first_on_machine else ElsewhereError


def _ending(runtime: Runtime, failure: Exception | None) -> Exception:
    said = runtime.heard(None if failure is None else str(failure) or type(failure).__name__)
    return ElsewhereError(said) if failure is None else failure


def _lost(runtime: Runtime) -> str | None:
    """That the run folder has gone, or is another run's; None while its lock is held, and without one."""
    lost = None if runtime.lock is None else runtime.lock.lost()
    if runtime.lock is None or lost is None:
        return None
    run = runtime.lock.path.parent
    if not runtime.lock.path.exists():  # a file of the run may have made an empty folder anew
        return (
            f"the run folder {run} was removed or moved while it was being trained, so nothing more can be "
            "saved: put it back and give the same command again, or start a new run"
        )
    return (
        f"the run folder {run} is no longer this run's ({lost}), and two runs in one folder delete each "
        "other's checkpoints: see to it that one trains, and give the same command again"
    )


def _sentence(folder: Path, doing: str, error: Exception) -> str | None:
    """Why the folder takes no more files; None for an error of any other kind."""
    reason = refusal(error, folder)
    if reason is None:
        return None
    newest = newest_checkpoint(folder)
    kept = (
        f"its newest whole checkpoint is at {kimg_of(newest):g} kimg"
        if newest
        else "it has no checkpoint yet"
    )
    return (
        f"{folder} cannot be written for {doing} ({reason}); {kept}: {advice(error)} and give the same "
        "command again"
    )


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run, in its highest stage that has one; None where there is none."""
    stages = sorted(folder.glob("stage_*/checkpoints"), reverse=True)
    return next(filter(None, map(newest_whole, [folder / "checkpoints", *stages])), None)


def kimg_of(checkpoint: Path) -> float:
    """Thousand images at which a checkpoint folder was written, by its name."""
    return float(checkpoint.name.removeprefix("kimg_"))
