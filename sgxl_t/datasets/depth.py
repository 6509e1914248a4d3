"""Grey and colours of more than eight bits to eight: by the range that a file names, or else by all 16 bits.

Scanners, microscopes and medical devices store 10, 12 or 14 bits in files of 16. Where a file says so (sBIT
of PNG, BitsPerSample and MaxSampleValue of TIFF) its own range becomes black to white. Where it does not, the
image stays as dark as its values are, like every other of its set, and a note says what part it uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sgxl_t.datasets.rejects import RejectedItemError

Note = Callable[[str], None]
"""Called with a remark on an image, which is counted."""

DEPTH = "depth"
"""Key of an image's info under which `examine` leaves what it found."""
SHARES = {8: "a 256th", 10: "a 64th", 12: "a sixteenth", 14: "a quarter"}
"""Part of the range of 16 bits that values of fewer bits use."""
PNG_HEAD = 2**16
"""Bytes of a PNG in which its sBIT is looked for; it stands before palette and pixels."""
FLOAT_WHITE = 2.0
"""Floats up to this are taken to mean 0 to 1, some with highlights beyond."""
BELOW_ZERO = "picture with values below 0, which become black"
PHOTOMETRIC, BITS_PER_SAMPLE, MAX_SAMPLE_VALUE = 262, 258, 281


@dataclass(frozen=True)
class Depth:
    """bits: number of significant bits by the file's own word, None without it. shifted: they may be the
    upper ones of the 16, as PNG asks for, which not every program follows. inverted: 0 is white.
    """

    bits: int | None = None
    shifted: bool = False
    inverted: bool = False


def examine(image: Image.Image, file: BinaryIO) -> None:
    """Notes in an image that has been opened and not loaded what its file says of 16-bit values."""
    tile = getattr(image, "tile", None)
    if not tile or (";16" not in str(tile[0]) and ";12" not in str(tile[0])):
        return
    depth = Depth()
    if image.format == "PNG":
        offset = file.tell()
        file.seek(0)
        depth = Depth(_significant_bits(file.read(PNG_HEAD)), shifted=True)
        file.seek(offset)
    elif image.format == "TIFF":
        depth = _depth_of_tiff(image.getexif(), grey=image.mode.startswith("I"))
    image.info[DEPTH] = depth


def _significant_bits(data: bytes) -> int | None:
    """The largest number in the sBIT chunk of a PNG, alpha left out; None without the chunk."""
    offset, channels = 8, {0: 1, 2: 3, 4: 1, 6: 3}.get(data[25] if len(data) > 25 else 0, 1)
    while offset + 8 <= len(data):
        size, kind = int.from_bytes(data[offset : offset + 4], "big"), data[offset + 4 : offset + 8]
        if kind == b"sBIT":
            found = max(data[offset + 8 : offset + 8 + min(size, channels)], default=0)
            return found if 8 <= found < 16 else None
        if kind == b"IDAT":
            return None
        offset += 12 + size
    return None


def _depth_of_tiff(tags: Image.Exif, *, grey: bool) -> Depth:
    bits, most = tags.get(BITS_PER_SAMPLE, 16), tags.get(MAX_SAMPLE_VALUE, 0)
    bits = bits[0] if isinstance(bits, tuple) else bits
    most = most[0] if isinstance(most, tuple) else most
    if not (isinstance(bits, int) and 8 < bits < 16):
        bits = most.bit_length() if isinstance(most, int) and 255 < most < 2**15 else None
    return Depth(bits, inverted=grey and tags.get(PHOTOMETRIC) == 0)


def grey_of_integers(image: Image.Image, note: Note) -> Image.Image:
    """Modes I and I;16 to L; integers of up to 255 in 32 bits stay as they are."""
    values = np.asarray(image).astype(np.int64)
    depth = image.info.get(DEPTH) or Depth()
    most = int(values.max(initial=0))
    if values.min(initial=0) < 0:
        note(BELOW_ZERO)
    if most >= 2**16:
        raise RejectedItemError("picture of more than 16 bits", f"a value of {most}")
    wide = image.mode != "I" or most > 255
    bits = depth.bits if depth.bits is not None and _lies_low(values, most, depth) else 16
    if wide and bits == 16:
        _note_narrow(most, note)
    if depth.inverted:
        values = (2**bits - 1) - values
    grey = Image.fromarray((values >> (bits - 8 if wide else 0)).clip(0, 255).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(np.asarray(image) == clear, 0, 255).astype(np.uint8)))
    return grey


def _lies_low(values: NDArray[np.int64], most: int, depth: Depth) -> bool:
    """Whether values are small numbers of the bits that the file names, not the upper bits of 16."""
    if depth.bits is None or most >= 2**depth.bits:
        return False
    return not depth.shifted or bool((values & ((1 << (16 - depth.bits)) - 1)).any())


def grey_of_floats(image: Image.Image, note: Note) -> Image.Image:
    """Mode F to L: values from 0 to 1, or else to 255, or else to 65535 are black to white."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise RejectedItemError("picture with values that are no numbers")
    least, most = float(values.min(initial=0)), float(values.max(initial=0))
    if least < 0:
        note(BELOW_ZERO)
    if most >= 2**16:
        raise RejectedItemError("picture of more than 16 bits", f"a value of {most:g}")
    white = 1.0 if most <= FLOAT_WHITE else 255.0 if most <= 255 else 65535.0
    return Image.fromarray((values * (255 / white)).round().clip(0, 255).astype(np.uint8))


def note_narrow_colours(image: Image.Image, note: Note) -> None:
    """The same note for images whose 16 bits a channel were cut to eight when they were opened."""
    if DEPTH in image.info:
        upper = max(high for _, high in _extrema(image))
        _note_narrow(upper << 8 | 255, note)


def _extrema(image: Image.Image) -> list[tuple[int, int]]:
    colours = image.convert("RGB").getextrema()
    return [(int(low), int(high)) for low, high in colours]  # type: ignore[misc]  # pairs for several bands


def _note_narrow(most: int, note: Note) -> None:
    used = next((bits for bits in SHARES if 0 < most < 2**bits), None)
    if used is not None:
        note(
            f"16-bit picture that uses {SHARES[used]} of its range (values to {2**used - 1}) and comes out "
            "dark: scale its values to 65535"
        )
