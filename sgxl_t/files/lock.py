"""Locks on folders and files while they are written; locks that killed processes left are recognised.

    with locked(lock_in(run), f"run folder {run} is being trained", "wait, or name another --run-dir"):
        ...

The lock is a small file that names its holder: process, start time of the process, host, boot. On the same
machine the system says whether that process still runs, also where its number was given to another one since.
From another machine, or another container, only the file can be seen: a holder touches it every BEAT seconds,
and one that does not for PATIENCE seconds of watching has gone. No clocks are compared.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import parse_json

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

BEAT = 10.0
"""Seconds between two touches of a lock by its holder."""
PATIENCE = 90.0
"""Seconds without a touch after which a holder on another machine has gone."""
HALF_WRITTEN = 2.0
"""Seconds after which a lock that names no holder counts as left by a process killed while making it."""
WAIT_SECONDS = 120.0
"""Longest wait of `in_turn`; a change takes far less than a second."""
_PAUSE = 0.05
MAX_BYTES = 4096
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class LockedError(ValueError):
    """Another process holds the lock; the text is one sentence, for the user."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. started: of the process, as its system counts. machine: a boot and what sees the
    same process numbers; since: when it took the lock, for people."""

    pid: int
    started: str
    host: str
    machine: str
    since: str

    def runs(self) -> bool:
        """Whether the process is still there; only where it is of this machine."""
        started = _start_of(self.pid)
        if started is not None:
            return started == self.started
        try:  # the process table may be hidden from other users
            os.kill(self.pid, 0)
        except PermissionError:
            return True
        except (OSError, OverflowError):
            return False
        return not os.path.exists(f"/proc/{self.pid}")  # a zombie has ended


class Lock:
    """A lock that this process holds."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name=f"lock {path}")
        self._thread.start()

    def lost(self) -> str | None:
        """None while the lock is held, else what became of it: the folder may have been removed, say."""
        try:
            if os.path.samestat(os.stat(self.path), os.fstat(self._descriptor)):
                return None
        except FileNotFoundError:
            return f"{self.path} is gone"
        except OSError:  # storage that does not answer now says nothing
            return None
        holder = _holder_in(_look(self.path)[0], self.path)
        who = f"process {holder.pid} on {visible(holder.host)}" if holder else "another process"
        return f"{who} has taken {self.path} over"

    def release(self) -> None:
        """Gives the lock back."""
        self._stop.set()
        self._thread.join(timeout=BEAT)
        held = self.lost() is None
        os.close(self._descriptor)
        if held:
            with suppress(OSError):
                self.path.unlink()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with suppress(OSError):
                os.utime(self._descriptor if os.utime in os.supports_fd else self.path)


def lock_in(folder: Path) -> Path:
    """The lock of a folder that is there while it is written, such as a run."""
    return folder / ".lock"


def lock_beside(target: Path) -> Path:
    """The lock of a file or folder that appears whole, or is replaced, when its writing ends."""
    real = Path(os.path.realpath(target))  # two names of one target have one lock
    return real.with_name(f".{real.name}.lock")


@contextmanager
def locked(path: Path, what: str, way_out: str) -> Iterator[Lock]:
    """Holds the lock at `path` within the block.

    Missing folders above it are made, and removed again where nothing else came into them. LockedError where
    a process that runs holds it: "WHAT by process 12 on box since ...: WAY_OUT". OSError where no file can be
    made there.
    """
    lacking = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = _acquire(path, what, way_out)
        try:
            yield lock
        finally:
            lock.release()
    finally:
        with suppress(OSError):
            for folder in lacking:
                folder.rmdir()


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """A block in which no other process that asks for its turn at `path` changes that file.

    LockedError, a ValueError in one sentence, where another process does not come to an end; OSError where
    nothing can be written beside the file.
    """
    latest = time.monotonic() + WAIT_SECONDS
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(
                    locked(lock_beside(path), f"{path} is being written", "wait, or name another file")
                )
                break
            except LockedError:
                if time.monotonic() > latest:
                    raise
                time.sleep(_PAUSE)
        yield


def _acquire(path: Path, what: str, way_out: str) -> Lock:
    """Makes the lock file, after removing one whose holder has gone."""
    content = json.dumps(asdict(_this_process()), indent=1).encode()
    first: tuple[bytes, int, float] | None = None
    while True:
        with suppress(FileExistsError):
            return _create(path, content)
        found, touched = _look(path)
        now, holder = time.monotonic(), _holder_in(found, path)
        if first is None or found != first[0]:
            first = found, touched, now
            patience = _patience(holder)
            if holder is not None and patience:
                log.warning("%s", _sentence(holder, what, f"waiting up to {patience:g} s for a sign of life"))
        if holder is not None and ((_is_here(holder) and holder.runs()) or touched != first[1]):
            raise LockedError(_sentence(holder, what, way_out))
        if now - first[2] >= patience:
            _remove(path, found)
        else:
            time.sleep(min(0.5, BEAT / 10))


def _patience(holder: Holder | None) -> float:
    """Seconds for which a lock is watched before it counts as left behind."""
    if holder is None:
        return HALF_WRITTEN
    return 0.0 if _is_here(holder) else PATIENCE


def _is_here(holder: Holder) -> bool:
    return holder.machine == _machine()


def _create(path: Path, content: bytes) -> Lock:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return Lock(path, descriptor)


def _remove(path: Path, content: bytes) -> None:
    """Removes a lock whose holder has gone, unless another process was faster."""
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return
    try:
        if fcntl is not None:
            with suppress(OSError):  # some file systems have no such locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            same = os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
            if same and os.read(descriptor, MAX_BYTES + 1) == content:
                path.unlink()
    finally:
        os.close(descriptor)


def _look(path: Path) -> tuple[bytes, int]:
    """Bytes of a lock file and when it was touched; nothing where it has gone. ValueError for what is no
    file."""
    try:
        # Opening a file asks its server anew, which looking at its times alone may not.
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return b"", 0
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is where a lock file belongs and is not a file: remove it")
        return os.read(descriptor, MAX_BYTES + 1), status.st_mtime_ns
    finally:
        os.close(descriptor)


def _holder_in(content: bytes, path: Path) -> Holder | None:
    """Who holds a lock by its content; None for what is half written, or garbled."""
    try:
        value = parse_json(content, str(path), maximum=MAX_BYTES)
        texts = {name: value[name].text(300) for name in ("started", "host", "machine", "since")}
        return Holder(pid=value["pid"].integer(1, 2**31 - 1), **texts)
    except ValueError:
        return None


def _sentence(holder: Holder, what: str, way_out: str) -> str:
    host, since = visible(holder.host), visible(holder.since)
    return f"{what} by process {holder.pid} on {host} since {since}: {way_out}"


def _this_process() -> Holder:
    pid = os.getpid()
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    return Holder(pid, _start_of(pid) or "", socket.gethostname(), _machine(), since)


def _machine() -> str:
    """What has the same process numbers: one boot of one host, and one container of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _start_of(pid: int) -> str | None:
    """When a process began, in whatever its system counts; None where none runs or it cannot be seen."""
    try:
        # Behind the name, which may hold anything, the state is the first field and the start the 20th.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        if os.path.exists("/proc/self/stat"):
            return None
    with suppress(OSError, subprocess.TimeoutExpired):
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip() or None
    return None
