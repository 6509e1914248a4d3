"""What files hold, as hashes of their bytes: the one ground on which data counts as the same data.

Names, sizes and times say nothing about content: two folders of bitmaps share all of them easily. So every
byte is read and goes into SHA-256, which takes minutes for large sets. Hashes are therefore remembered in the
user's cache folder, by the path of a file and by everything that the file system says about it: device,
number, size and both times. The time of the last change of a file cannot be set by programs, so an image
that was replaced and given its old time back is seen too.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sgxl_t.files.cache import cache_folder
from sgxl_t.files.regular import open_regular, read_regular
from sgxl_t.files.terminal import visible
from sgxl_t.files.whole import whole_file

log = logging.getLogger(__name__)

UNREADABLE = bytes(32)
"""Stands for a file that cannot be read, or is no regular one."""
SETTLED_SECONDS = 10
"""A file that changed this shortly before it was hashed could change again within the same tick of the file
system's clock, so that nobody would see it. Its hash is not remembered."""
WORTH_BYTES, WORTH_FILES = 32 * 2**20, 1000
"""Less than this is hashed in a blink, and not remembered."""
SAVE_SECONDS = 60
"""Hashing that goes on for long is saved this often, so that a stop costs little."""
MAX_MEMORY_BYTES = 2**30
"""All that is remembered, over all sets; 22 million files. The sets used longest ago are forgotten first."""
MAX_OTHERS = 2_000_000
"""Files whose hashes stay remembered although a set has them no longer."""
_MAGIC = b"sgxl-t contents 1\n"
_BLOCK = 2**20
_SLICE = 4096
_KEY, _DIGEST = 16, 32
_THREADS = 8
_TEXT = ("utf-8", "surrogateescape")


def file_hash(path: str | Path) -> bytes:
    """SHA-256 of a file's bytes, or UNREADABLE; remembered where the file is large."""
    return file_hashes([str(path)], name=str(path))[0]


def file_hashes(paths: Sequence[str], *, name: str) -> list[bytes]:
    """SHA-256 of each file's bytes, 32 bytes each, in order; UNREADABLE for what cannot be read.

    name: folder or file that stands for all, in the progress bar and where their hashes are remembered.
    Several processes may hash one set at once.
    """
    paths = [os.path.abspath(path) for path in paths]
    memory = _Memory(os.path.abspath(name))
    known = memory.load()
    states = [_state(path) for path in paths]
    found = [known.get(key, b"") if key else UNREADABLE for key, _ in states]
    missing = [index for index, digest in enumerate(found) if not digest]
    total = sum(states[index][1] for index in missing)
    used = {key: digest for (key, _), digest in zip(states, found, strict=True) if key and digest}
    # Other splits and lists of the same place stay known, and files that have gone, within bounds.
    kept = {**known, **used} if len(known) <= max(MAX_OTHERS, 2 * len(used)) else used
    if missing:
        try:
            text = f"hashing {visible(name)}"
            with tqdm(total=total, desc=text, unit="B", unit_scale=True, delay=2, leave=False) as bar:
                _hash_missing(paths, missing, found, kept, bar, memory)
        finally:
            if total >= WORTH_BYTES or len(missing) >= WORTH_FILES:
                memory.save(kept)
    return found


def short_hash(*parts: object) -> str:
    """Sixteen hex digits of SHA-256 over the parts; bytes count as they are, all else by its text."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode(*_TEXT)
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


def file_state(path: str | Path) -> bytes:
    """Sixteen bytes that change when a file was written, replaced or moved; b"" where there is none."""
    return _state(os.path.abspath(path))[0]


def _state(path: str) -> tuple[bytes, int]:
    """What the file system says about a path, hashed, and the size in bytes."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return b"", 0
    return _key(path, stat), stat.st_size


def _key(path: str, stat: os.stat_result) -> bytes:
    facts = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return hashlib.sha256(f"{facts} {path}".encode(*_TEXT)).digest()[:_KEY]


def _hash_missing(
    paths: Sequence[str],
    missing: Sequence[int],
    found: list[bytes],
    kept: dict[bytes, bytes],
    bar: Any,
    memory: _Memory,
) -> None:
    """Fills `found` at the missing places, and `kept` with what may be remembered."""
    lock, over, saved = threading.Lock(), threading.Event(), time.monotonic()

    def tell(count: int) -> None:
        if over.is_set():
            raise InterruptedError
        with lock:
            bar.update(count)

    # Threads, since hashing lets go of the interpreter, and slow discs and networks are asked for several
    # files at once.
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for start in range(0, len(missing), _SLICE):
                part = missing[start : start + _SLICE]
                hashed = pool.map(lambda index: _hash_file(paths[index], tell), part)
                for index, (digest, key) in zip(part, hashed, strict=True):
                    found[index] = digest
                    if key:
                        kept[key] = digest
                if time.monotonic() - saved > SAVE_SECONDS:
                    memory.save(kept)
                    saved = time.monotonic()
        finally:
            over.set()  # Ctrl-C must not wait for the end of a large file


def _hash_file(path: str, tell: Callable[[int], None]) -> tuple[bytes, bytes]:
    """The hash of a file, and the key under which it may be remembered; b"" where it may not."""
    began = time.time_ns()
    try:
        with open_regular(path) as file:
            before, digest = os.fstat(file.fileno()), hashlib.sha256()
            while block := file.read(_BLOCK):
                digest.update(block)
                tell(len(block))
            after = os.fstat(file.fileno())
    except (OSError, ValueError):
        return UNREADABLE, b""
    key = _key(path, after)
    settled = max(after.st_mtime_ns, after.st_ctime_ns) < began - SETTLED_SECONDS * 10**9
    return digest.digest(), key if settled and key == _key(path, before) else b""


class _Memory:
    """Hashes of one set of files on disk: a head, the SHA-256 of the rest, then key and hash of each file."""

    def __init__(self, name: str) -> None:
        number = hashlib.sha256(name.encode(*_TEXT)).hexdigest()[:32]
        self.path = cache_folder() / "contents" / number

    def load(self) -> dict[bytes, bytes]:
        """Hash by key; nothing where there is no file, or a damaged one, which the log names."""
        if not self.path.is_file():
            return {}
        head = len(_MAGIC) + _DIGEST
        try:
            data = memoryview(read_regular(self.path, MAX_MEMORY_BYTES))
            body = data[head:]
            whole = bytes(data[: len(_MAGIC)]) == _MAGIC and len(body) % (_KEY + _DIGEST) == 0
            if not whole or hashlib.sha256(body).digest() != data[len(_MAGIC) : head]:
                raise ValueError("it is not a complete file of sgxl-t")
            os.utime(self.path)
        except (OSError, ValueError) as error:
            log.warning("the remembered hashes %s are damaged (%s): files are hashed anew", self.path, error)
            return {}
        starts = range(0, len(body), _KEY + _DIGEST)
        return {bytes(body[at : at + _KEY]): bytes(body[at + _KEY : at + _KEY + _DIGEST]) for at in starts}

    def save(self, hashes: dict[bytes, bytes]) -> None:
        """Writes all, whole; where that cannot be done, the next start hashes again."""
        body = b"".join(key + digest for key, digest in hashes.items())
        if len(body) + 100 > MAX_MEMORY_BYTES:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self.path) as aside:
                aside.write_bytes(_MAGIC + hashlib.sha256(body).digest() + body)
            _forget_oldest(self.path.parent)
        except OSError as error:
            log.warning("hashes of files could not be remembered in %s: %s", self.path.parent, error.strerror)


def _forget_oldest(folder: Path) -> None:
    """Removes the sets used longest ago until what is left is small enough."""
    entries = []
    for path in folder.iterdir():
        with suppress(OSError):
            stat = path.stat()
            entries.append((stat.st_mtime_ns, stat.st_size, path))
    total = 0
    for _, size, path in sorted(entries, reverse=True):
        total += size
        if total > MAX_MEMORY_BYTES:
            path.unlink(missing_ok=True)
