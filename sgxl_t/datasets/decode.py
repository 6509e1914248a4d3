"""From the bytes of an image file to uint8 [3, R, R], with bounds against hostile and useless files."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sgxl_t.datasets.depth import Note, examine, grey_of_floats, grey_of_integers, note_narrow_colours
from sgxl_t.datasets.rejects import RejectedItemError, rejected

MIN_SIDE = 8
MAX_PIXELS = 80_000_000
MAX_FILE_BYTES = 256 * 2**20

UNREADABLE = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"})
"""Formats that Pillow hands to other programs or only identifies."""


@dataclass(frozen=True)
class Bounds:
    """What an image may be: its shorter side in pixels, its number of pixels, its file size in bytes."""

    min_side: int = MIN_SIDE
    max_pixels: int = MAX_PIXELS
    max_file_bytes: int = MAX_FILE_BYTES


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in Image.OPEN if name not in UNREADABLE)


@cache
def image_suffixes() -> frozenset[str]:
    """File endings of the formats that are read, lower case with the dot."""
    formats = set(_formats())
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in formats)


def is_image(name: str) -> bool:
    """Whether a file name ends like an image."""
    return "." in name and "." + name.rsplit(".", 1)[1].lower() in image_suffixes()


def open_image(file: BinaryIO, bounds: Bounds) -> Image.Image:
    """Open an image by its header alone; RejectedItemError when it is none or breaks the bounds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(file, formats=_formats())
        except Image.DecompressionBombError as error:
            raise RejectedItemError("too many pixels", str(error)) from error
        except Exception as error:  # Pillow's plugins raise nearly everything on broken headers
            raise rejected("no readable picture", error) from error
    width, height = image.size
    if width * height > bounds.max_pixels:
        raise RejectedItemError("too many pixels", f"{width} x {height}, at most {bounds.max_pixels}")
    if min(width, height) < bounds.min_side:
        raise RejectedItemError("too small", f"{width} x {height}, sides of at least {bounds.min_side}")
    try:
        examine(image, file)
    except Exception as error:  # broken tags
        raise rejected("no readable picture", error) from error
    return image


Size = tuple[int, int]
"""Height and width in pixels."""

Enlarge = Callable[[Image.Image, int], Image.Image]
"""Takes a square RGB image and a larger resolution, and gives the image at that resolution."""


def _no_note(what: str) -> None:
    """Remarks that nobody counts."""


ORIENTATION = 0x0112
"""EXIF's entry for how an image was held."""
DRAFT_MARGIN = 2
"""JPEGs are decoded to at least this times R pixels a side, so that Lanczos still does the last step."""


def decode_image(
    data: bytes,
    size: int | Size,
    bounds: Bounds | None = None,
    enlarge: Enlarge | None = None,
    *,
    draft: bool = False,
    note: Note = _no_note,
) -> Tensor:
    """Encoded bytes to uint8 [3, R, R]: upright by EXIF, on white, centre crop, antialiased Lanczos.

    size: R, or height and width. enlarge: what makes images smaller than R larger; Lanczos without.
    draft: decode JPEGs at a half, quarter or eighth of their size where at least 2 R pixels a side remain.
    Several times faster; the decoder averages blocks of pixels before Lanczos does the rest.
    note: called with each remark on the image, such as that it uses twelve of its 16 bits.
    """
    bounds, resolution = bounds or Bounds(), size if isinstance(size, int) else max(size)
    if len(data) > bounds.max_file_bytes:
        raise RejectedItemError("file too large", f"{len(data)} bytes, at most {bounds.max_file_bytes}")
    image = open_image(io.BytesIO(data), bounds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if draft and image.getexif().get(ORIENTATION, 1) == 1:
                smaller = _drafted_square(image, resolution)
                if smaller is not None:
                    return _as_tensor(smaller)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            rgb = to_rgb(image, note)
    except RejectedItemError:
        raise
    except Exception as error:  # truncated or corrupt bodies end in many kinds of errors
        raise rejected("cannot be decoded", error) from error
    return _as_tensor(centre_crop(rgb, size, enlarge))


def fitted(image: Tensor, size: Size) -> Tensor:
    """uint8 [3, H, W] brought to another height and width as files are."""
    if image.shape[-2:] == size:
        return image
    return _as_tensor(centre_crop(Image.fromarray(image.permute(1, 2, 0).numpy()), size))


def _as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)))


def _drafted_square(image: Image.Image, resolution: int) -> Image.Image | None:
    """The centre square of an image that its decoder makes smaller; None where it cannot, or not enough."""
    width, height = image.size
    drafted = image.draft(None, (DRAFT_MARGIN * resolution, DRAFT_MARGIN * resolution))
    scale = width / drafted[1][2] if drafted else 1
    if scale == 1:
        return None
    # The same square as at full size: its edges may lie between the pixels of the smaller image.
    side = min(width, height)
    box = [edge / scale for edge in ((width - side) // 2, (height - side) // 2)]
    box += [edge + side / scale for edge in box]
    left, top, right, bottom = (*map(math.floor, box[:2]), *map(math.ceil, box[2:]))
    square = to_rgb(image.crop((left, top, right, bottom)))
    inner = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    return square.resize((resolution, resolution), Image.Resampling.LANCZOS, box=inner)


def to_rgb(image: Image.Image, note: Note = _no_note) -> Image.Image:
    """Any mode to RGB; transparent images on white, grey of more than eight bits as `depth` has it."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = grey_of_integers(image, note)
    elif image.mode == "F":
        image = grey_of_floats(image, note)
    else:
        note_narrow_colours(image, note)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def centre_crop(image: Image.Image, size: int | Size, enlarge: Enlarge | None = None) -> Image.Image:
    """The largest centred part of a shape, resized in one step. size: a square's side, or height and width.

    Pillow's Lanczos filter, three lobes wide in pixels of the smaller image, so that everything finer than
    the result can show is averaged away before it is sampled. This is how every source shrinks images: an
    archive of 256 px opened at 64 px gives the images that an archive of 64 px made from it would hold.
    enlarge: for squares alone.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if image.size == (width, height):
        return image
    scale = min(image.width / width, image.height / height)
    across, down = (max(1, round(side * scale)) for side in (width, height))
    left, top = (image.width - across) // 2, (image.height - down) // 2
    part = image
    if image.size != (across, down):
        part = image.crop((left, top, left + across, top + down))
    if enlarge is not None and across < width:
        return enlarge(part, width)
    return part.resize((width, height), Image.Resampling.LANCZOS)
