"""Training runs in processes of their own that a test may kill; a fork server starts them in a second."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import torch

from sgxl_t.training.callbacks.stats_file import read_stats
from sgxl_t.training.checkpoint.checkpoint import load_newest

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["sgxl_t.training.build_trainer", "sgxl_t.training.train"])

TIMED = {"images_per_second", "memory_gib", "loader_share"}
"""Numbers of a tick that no two runs have in common."""


def start(arguments, log, before=None):
    """A training run whose words go to the file `log`. before: called in the process first."""
    process = _SERVER.Process(target=_run, args=(arguments, str(log), before))
    process.start()
    return process


def finish(arguments, log, before=None, timeout=600):
    """A run to its end; returns its exit code, which is negative after a signal."""
    process = start(arguments, log, before)
    process.join(timeout)
    if process.is_alive():
        process.kill()
        raise AssertionError(f"the run did not end within {timeout} seconds: {Path(log).read_text()}")
    return process.exitcode


def _run(arguments, log, before):
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    if before is not None:
        before()
    from sgxl_t.training.train import main

    main(arguments)


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


SAVING = ("tensors", "models", "manifest", "flush", "rename", "renamed", "removal")
"""Moments of writing a checkpoint, in their order."""


def die_saving(moment, number):
    """Called in a run: its process is killed at a moment of its checkpoint `number`, counted from 1."""
    from sgxl_t.files import whole as files
    from sgxl_t.training.checkpoint import checkpoint

    written = [0]

    def at(name, work, *, calls=1, spoil=None, wanted=lambda *_: True):
        seen = [0]

        @functools.wraps(work)
        def instead(*given, **named):
            if written[0] == number and moment == name and wanted(*given):
                seen[0] += 1
                if seen[0] == calls:
                    if spoil is not None:
                        spoil(work, *given, **named)
                    _die()
            return work(*given, **named)

        return instead

    def write(*given):
        written[0] += 1
        return whole(*given)

    def half(work, path, tensors):
        work(path, tensors)
        os.truncate(path, path.stat().st_size // 2)

    def one_file(_work, folder, **_named):
        next(path for path in sorted(folder.iterdir()) if path.is_file()).unlink()

    def old(folder, *_):
        return folder.name.startswith("kimg_") and folder.exists()

    whole, checkpoint._write = checkpoint._write, write
    checkpoint.write_tensors = at("tensors", checkpoint.write_tensors, calls=3, spoil=half)
    checkpoint._fingerprint = at("manifest", checkpoint._fingerprint, calls=2)
    files._flush = at("flush", files._flush, calls=3)
    os.rename = at("renamed", at("rename", os.rename), spoil=lambda work, *given: work(*given))
    shutil = checkpoint.shutil
    checkpoint.shutil = SimpleNamespace(
        copytree=at("models", shutil.copytree, spoil=lambda work, *given: work(*given)),
        rmtree=at("removal", shutil.rmtree, spoil=one_file, wanted=old),
    )


def final_state(folder):
    """All tensors of the newest checkpoint by `part/name`, and its state."""
    _, parts, state = load_newest(Path(folder) / "checkpoints")
    return {
        f"{part}/{name}": value for part, tensors in parts.items() for name, value in tensors.items()
    }, state


def numbers(folder):
    """The lines of stats.jsonl without what depends on the clock."""
    lines = read_stats(Path(folder) / "stats.jsonl")
    return [{name: value for name, value in line.items() if name not in TIMED} for line in lines]


def assert_same_run(folder, other):
    """All tensors, counters and numbers are equal, bit for bit, and nothing is left half-written."""
    (tensors, state), (expected, expected_state) = final_state(folder), final_state(other)
    assert tensors.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(tensors[name], expected[name])] == []
    for key in ("images_seen", "iteration", "data", "snapshots", "plateau"):
        assert state[key] == expected_state[key]
    assert numbers(folder) == numbers(other)
    assert leftovers(folder) == []


def leftovers(folder):
    """Names of what a killed process left half-written in a run folder."""
    return [path.name for path in Path(folder).rglob(".*")]


def processes_with(word):
    """Ids of the processes on whose command line a word stands."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if word in (entry / "cmdline").read_bytes().decode(errors="replace").split("\0"):
                    found.append(int(entry.name))
    return found
