"""Running out of memory: recognised whoever says it, and told with what was being done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class MemoryShortError(ValueError):
    """There is not enough memory for what was asked; the sentence says what it was and what to do."""


@contextmanager
def taking_memory(what: str, way_out: str) -> Iterator[None]:
    """Turns running out of memory inside into a MemoryShortError: `what` that does not fit, and `way_out`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryShortError(f"{what} does not fit into memory: {way_out}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, of torch or of a device says that memory ran out.

    torch has an error of its own for devices, and none for the CPU's allocator and for mapped files.
    """
    named = isinstance(error, MemoryError) or is_out_of_device_memory(error)
    return named or "can't allocate memory" in str(error) or "Cannot allocate memory" in str(error)


def is_out_of_device_memory(error: BaseException) -> bool:
    """Whether it was the memory of a GPU."""
    return type(error).__name__ == "OutOfMemoryError"
