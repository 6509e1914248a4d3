"""How a command ends: one sentence for a user's mistake, a code that scripts can read, never a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

import click

MISTAKE, INTERRUPTED = 2, 130
MAX_SENTENCE = 1000


def run(command: Callable[[], Any]) -> int:
    """Runs a command and returns its exit code: 0, 2 after a user's mistake, 130 after Ctrl-C.

    ValueError, click's usage errors and what the operating system refuses are users' mistakes here. Anything
    else is our bug and passes through.
    """
    try:
        result = command()
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
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
        if not _out_of_memory(error):
            raise
        return _mistake(
            "the device has not enough memory for this: use a smaller --batch-size or --device cpu"
        )
    return result if isinstance(result, int) else 0


def _out_of_memory(error: Exception) -> bool:
    """torch has an error of its own for devices, and none for the CPU's allocator."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def _refused(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return f"the system refused: {reason}"
    return f"{error.filename}: {reason}, so check the path and its permissions"


def _mistake(message: str) -> int:
    sentence = " ".join(message.split()) or "the request cannot be carried out"
    if len(sentence) > MAX_SENTENCE:
        sentence = sentence[: MAX_SENTENCE - 4] + " ..."
    click.echo(f"sgxl-t: {sentence}", err=True)
    return MISTAKE
