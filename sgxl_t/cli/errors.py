"""How a command ends: one sentence for a user's mistake, a code that scripts can read, never a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from sgxl_t.cli.group import no_such_option
from sgxl_t.files.memory import is_out_of_device_memory, is_out_of_memory
from sgxl_t.files.terminal import say

MISTAKE, INTERRUPTED = 2, 130
MAX_SENTENCE = 1000
WAYS_OUT = {
    errno.ENOSPC: "make room, or name a place on another disk",
    errno.EDQUOT: "make room within the quota, or name a place on another disk",
    errno.EROFS: "name a place that can be written",
    errno.EMFILE: "allow more open files (`ulimit -n`)",
    errno.ENFILE: "close other programs, which hold too many files open",
    errno.ENOMEM: "close other programs, or use a machine with more memory",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ELOOP: "its links lead in a circle, mend them",
    errno.EIO: "the disk or the network that it lies on fails, look into the system's log",
    errno.EISDIR: "name a file, not a folder",
}
"""What to do about what the system says; for everything else the path or its permissions are to blame."""


def run(command: Callable[[], Any]) -> int:
    """Runs a command and returns its exit code: 0, 2 after a user's mistake, 130 after Ctrl-C.

    ValueError, click's usage errors and what the operating system refuses are users' mistakes here. Anything
    else is our bug and passes through.
    """
    try:
        result = command()
    except (KeyboardInterrupt, click.Abort):
        say("interrupted", err=True)
        return INTERRUPTED
    except click.NoSuchOption as error:
        return _mistake(no_such_option(error))
    except click.ClickException as error:
        return _mistake(error.format_message())
    except OSError as error:
        if error.errno == errno.EPIPE:
            # The reader of our output has gone (`| head`); closing stdout again at exit would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        return _mistake(_refused(error))
    except ValueError as error:
        return _mistake(str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _mistake(short_of_memory(error))
    return result if isinstance(result, int) else 0


def short_of_memory(error: BaseException, *, batches: bool = False) -> str:
    """The sentence about a command that ran out of memory. batches: whether it has --batch-size.

    Files that are too large to load say so themselves, before this.
    """
    if is_out_of_device_memory(error):
        ways = "a smaller --batch-size or --device cpu" if batches else "--device cpu"
        return f"the device has not enough memory for this: use {ways}"
    if batches:
        return "there is not enough memory for this: use a smaller --batch-size"
    return "there is not enough memory for this: close other programs, or use a machine with more"


def _refused(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    way_out = WAYS_OUT.get(error.errno or 0)
    if error.filename is None:
        return f"the system refused: {reason}" + (f", so {way_out}" if way_out else "")
    return f"{error.filename}: {reason}, so {way_out or 'check the path and its permissions'}"


def _mistake(message: str) -> int:
    sentence = " ".join(message.split()) or "the request cannot be carried out"
    if len(sentence) > MAX_SENTENCE:
        sentence = sentence[: MAX_SENTENCE - 4] + " ..."
    say(f"sgxl-t: {sentence}", err=True)
    return MISTAKE
