"""Where the bytes of a shard come from: a file, a URL, or a command that a user has allowed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from sgxl_t.datasets.shards.tar.headers import Forward, ShardError
from sgxl_t.files.regular import open_regular
from sgxl_t.files.terminal import visible

COMMAND = "pipe:"
CURL = (
    "curl -f -s -L --globoff --proto =http,https --connect-timeout 20 --speed-limit 1 --speed-time 60 "
    "--retry 3 --retry-delay 1 -- "
)


def is_command(shard: str) -> bool:
    """Whether a shard is the output of a command."""
    return shard.startswith(COMMAND)


def is_local(shard: str) -> bool:
    """Whether a shard is a path, not a URL or a command."""
    return not is_command(shard) and "://" not in shard


def shard_name(shard: str) -> str:
    """How a shard is called in lists and messages."""
    return Path(shard).name if is_local(shard) else shard[:150]


@contextmanager
def open_shard(shard: str, start: int = 0) -> Iterator[Forward]:
    """A shard from byte `start` on; ShardError when it cannot be opened, or is a named pipe or a device.

    URLs and commands (`pipe:COMMAND`) are opened by webdataset; start must be 0 for them.
    """
    try:
        file, size = _open(shard)
    except Exception as error:  # every kind of URL has its own kinds of errors
        raise ShardError("shard cannot be opened", visible(error) or type(error).__name__) from error
    try:
        yield Forward(file, size=size, offset=start)
    finally:
        with suppress(Exception):  # a command that is not read to its end ends with an error
            file.close()


def _open(shard: str) -> tuple[BinaryIO, int | None]:
    if is_local(shard):
        file = open_regular(shard)
        return file, os.fstat(file.fileno()).st_size
    from webdataset.gopen import gopen

    if shard.startswith(("http://", "https://")):
        shard = COMMAND + CURL + shlex.quote(shard)  # a dead server costs seconds, not minutes
    return cast("BinaryIO", gopen(shard)), None
