"""Another version of the package as the reference: a process in which it runs its own cases by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from sgxl_t.bench.memory import Memory

WORKERS = ("sgxl_t/bench/against/worker.py", "sgxl_t/sampling/bench/worker.py")
"""Where versions keep the file that runs their cases, newest first."""


class OtherVersion:
    """A process whose `sgxl_t` comes from another folder; use it in a `with` block."""

    def __init__(self, folder: str | Path, threads: int, keep_memory: bool = False) -> None:
        """folder: a checkout or a site-packages folder, the one that holds `sgxl_t`. ValueError otherwise."""
        self.folder = Path(folder).resolve()
        if not (self.folder / "sgxl_t" / "__init__.py").is_file():
            raise ValueError(
                f"--against {folder} holds no sgxl_t: name a checkout, or the site-packages folder of an "
                "environment where another version is installed"
            )
        worker = next((file for name in WORKERS if (file := self.folder / name).is_file()), None)
        if worker is None:
            raise ValueError(
                f"--against {folder} holds a version without `sgxl-t bench`, so there is nothing to compare "
                "with: name a later one"
            )
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": str(threads)}
        # -P: the folder of the file must not come before the other version. A session of its own: Ctrl-C is
        # for this process, which ends that one.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        try:
            found = self.ask(do="start", threads=threads, keep_memory=keep_memory)["from"]
            if Path(found) != self.folder / "sgxl_t":
                raise ValueError(
                    f"--against {folder}: Python took sgxl_t from {found} instead, so run without "
                    "whatever changes its search path"
                )
        except RuntimeError as error:
            self.close()
            raise ValueError(f"--against {folder} cannot be run: {error}") from None
        except BaseException:
            self.close()
            raise

    def ask(self, **request: Any) -> dict[str, Any]:
        """Answer of the process; RuntimeError with its words where it failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and the empty answer says so
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.folder} ended by itself")
        answer = json.loads(line)
        if "failed" in answer:
            raise RuntimeError(f"the version in {self.folder} failed: {answer['failed']}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> OtherVersion:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OtherRunner:
    """A `Runner` in the other process."""

    def __init__(self, other: OtherVersion, **request: Any) -> None:
        """request: name, batch, mode, dtype, clock, quick and device of the run."""
        self.other, self.request = other, request
        self.key = f"{request['mode']} {request['dtype']}"
        self.watched_ms = 0.0
        """As of a `Runner`."""

    def memory(self) -> tuple[list[Tensor], Memory]:
        """Outputs (shapes as of `Runner.run`), on our device, and memory of its first run."""
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "outputs.pt")
            answer = self.other.ask(do="prepare", key=self.key, file=file, **self.request)
            outputs = torch.load(file, weights_only=True)
        self.watched_ms = answer["ms"]
        device = torch.device(self.request["device"])
        return [x.to(device) for x in outputs], Memory(answer["saved"], answer["peak"])

    def warm_up(self) -> None:
        """Brings a GPU to its steady state."""
        self.other.ask(do="warm_up", key=self.key)

    def time(self, loops: int = 1) -> float:
        """Milliseconds of one run, by the clock of that process."""
        return self.other.ask(do="time", key=self.key, loops=loops)["ms"]
