"""What labelled data must be before a run starts: enough classes, not too many, none without pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sgxl_t.datasets.base import ImageSource

MIN_CLASSES, MAX_CLASSES = 2, 10_000
MAX_SHOWN = 3


def check_classes(source: ImageSource, where: str = "the data") -> None:
    """Raises ValueError for fewer than 2 classes, more than 10,000, and for classes without a picture.

    Every class costs a row in the table of each network and in the averages of w, and is learnt from its own
    pictures alone; more classes than 10,000 are mostly labels that were meant as something else, such as a
    number per picture. Streams of shards are too long to count and are not searched for empty classes.
    """
    count = source.num_classes
    if count < MIN_CLASSES:
        raise ValueError(
            f"{where} has {count} class, and a class condition chooses among at least {MIN_CLASSES}: add "
            "pictures of another class, or use --cond none"
        )
    if count > MAX_CLASSES:
        raise ValueError(
            f"{where} has {count} classes, more than {MAX_CLASSES}: join classes, or use --cond none if "
            "labels number the pictures"
        )
    pictures = source.label_counts()
    if pictures is None:
        return
    empty = [label for label in range(count) if pictures.get(label, 0) == 0]
    if empty:
        names = source.class_names or ()
        shown = ", ".join(_called(label, names) for label in empty[:MAX_SHOWN])
        more = f" and {len(empty) - MAX_SHOWN} more" if len(empty) > MAX_SHOWN else ""
        raise ValueError(
            f"{where} has no picture of class {shown}{more} among its classes 0 to {count - 1}: "
            "add pictures, or number the classes from 0 on without gaps"
        )


def _called(label: int, names: tuple[str, ...]) -> str:
    name = names[label] if label < len(names) else ""
    return f"{label} ({name[:40]})" if name not in ("", str(label)) else str(label)
