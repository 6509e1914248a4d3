"""The run folder before training begins: what runs, on what, from which sources."""

from __future__ import annotations

import json
import logging
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
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
FIRST = (CONFIG, ENVIRONMENT, STAGES)
"""Files that a start writes."""
FEATURES = "features"
"""Folder of feature networks that a run trains for itself."""
PARTS = ("checkpoints", "samples", "samples/frames", "waiting", FEATURES, "captions", "real_side")
"""Folders inside of a run folder in which files and folders appear whole or not at all."""


@contextmanager
def held(folder: Path, runtime: Runtime) -> Iterator[None]:
    """The run folder is this run's within the block; LockedError (a ValueError) where another trains there.

    Where the block fails before the first update, the folder is left as it was before.
    """
    before = None
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
                    before = _Before.of(folder)
        try:
            yield
        except BaseException as error:
            ours = runtime.lock is not None and runtime.lock.lost() is None
            if before is not None and ours and not runtime.has_trained:
                with suppress(OSError):
                    before.restore(folder, interrupted=not isinstance(error, Exception))
            raise
        finally:
            runtime.lock = None


@dataclass(frozen=True)
class _Before:
    """A run folder before a start. names: what was in it. first: contents of the files that every
    start writes anew."""

    names: frozenset[str]
    first: dict[str, bytes]

    @classmethod
    def of(cls, folder: Path) -> _Before:
        names = frozenset(path.name for path in folder.iterdir())
        return cls(names, {name: (folder / name).read_bytes() for name in FIRST if (folder / name).is_file()})

    def restore(self, folder: Path, *, interrupted: bool) -> None:
        """Takes the start back.

        A run that was there keeps all files, with their contents from before. Feature networks that were
        trained, which takes minutes, stay for the next start.

        interrupted: by the user, who may want to go on with what is there.
        """
        for name, content in self.first.items():
            if (folder / name).read_bytes() != content:
                with whole_file(folder / name) as aside:
                    aside.write_bytes(content)
        if self.first or (interrupted and _has_more(folder)):
            return
        for path in folder.iterdir():
            if path.name in self.names or (path.name == FEATURES and any(path.glob("*/config.json"))):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _has_more(folder: Path) -> bool:
    """Whether there is more than what every start writes."""
    return any(
        path.name not in (*FIRST, lock_in(folder).name) and not path.is_dir() for path in folder.rglob("*")
    )


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
