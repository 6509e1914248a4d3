"""The run folder before training begins: what runs, on what, from which sources."""

from __future__ import annotations

import json
import logging
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sgxl_t import __version__
from sgxl_t.files.lock import lock_in, locked
from sgxl_t.files.whole import put_back, whole_file
from sgxl_t.training.checkpoint.disk import is_full
from sgxl_t.training.config.config_file import write_config
from sgxl_t.training.parallel.main_process import on_main_process

if TYPE_CHECKING:
    from sgxl_t.training.parallel.runtime import Runtime

log = logging.getLogger("sgxl_t")

CONFIG, ENVIRONMENT, STAGES = "config.yaml", "environment.json", "chain.json"
PARTS = ("checkpoints", "samples", "waiting", "features", "captions", "real_side")
"""Folders inside of a run folder in which files and folders appear whole or not at all."""


@contextmanager
def held(folder: Path, runtime: Runtime) -> Iterator[None]:
    """The run folder is this run's within the block; LockedError (a ValueError) where another trains there.

    A new folder goes again where the block fails before it has come to more than its first files.
    """
    new = not folder.exists()
    with ExitStack() as stack:
        with on_main_process(runtime, folder, "its configuration"):
            if runtime.is_main:
                with _writable(folder):
                    runtime.lock = stack.enter_context(
                        locked(
                            lock_in(folder),
                            f"the run folder {folder} is being trained",
                            "wait, stop it, or name another with --run-dir",
                        )
                    )
        try:
            yield
        except BaseException:
            if new and runtime.is_main:
                with suppress(OSError):
                    _forget(folder)
            raise
        finally:
            runtime.lock = None


def _forget(folder: Path) -> None:
    """Removes what a start writes, unless there is more."""
    there = [path for path in folder.rglob("*") if not path.is_dir()]
    if {path.name for path in there} <= {CONFIG, ENVIRONMENT, STAGES, lock_in(folder).name}:
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path != lock_in(folder):
                path.unlink()


def prepare_folder(folder: Path, written: dict[str, Any]) -> None:
    """Makes the run folder and writes down what runs: configuration (`written`), versions, commit, seed.

    Repairs first what a killed process left half done in it, so hold its lock. ValueError where nothing can
    be written there, OSError where the disk is full.
    """
    for part in (".", *PARTS):
        for back in put_back(folder / part):
            log.warning("%s had been moved aside when the run was killed, and is back", back)
    with _writable(folder):
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        with whole_file(folder / CONFIG) as aside:
            write_config(written, aside)
        with whole_file(folder / ENVIRONMENT) as aside:
            aside.write_text(json.dumps(environment(written["seed"]), indent=1))


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise
        raise ValueError(
            f"the run folder {folder} cannot be written ({error.strerror}): choose another with --run-dir"
        ) from None


def environment(seed: int) -> dict[str, str | int]:
    """Versions, machine and seed, as far as results depend on them."""
    import accelerate
    import open_clip
    import timm

    return {
        "sgxl_t": __version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "open_clip": open_clip.__version__,
        "accelerate": accelerate.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "seed": seed,
    }


def _commit() -> str:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.strip() or "unknown"
