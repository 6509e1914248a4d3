"""Photographs as a generator would have made them: upright, square, its size and its channels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sgxl_t.datasets.decode import MAX_FILE_BYTES, ORIENTATION, Bounds, decode_image, open_image
from sgxl_t.datasets.rejects import RejectedItemError
from sgxl_t.files.content import short_hash
from sgxl_t.files.regular import read_regular
from sgxl_t.files.terminal import visible
from sgxl_t.ops.images import from_uint8, to_gray

MOST = 256
"""Photographs of one call."""


@dataclass(frozen=True)
class Photo:
    """One photograph that is to be inverted.

    name: what it is called beside images. pixels: uint8 [C, R, R], C and R of the generator. notes: what was
    done to make it fit, in words; empty for a picture that fitted. digest: sixteen hex digits of its bytes.
    """

    name: str
    pixels: Tensor
    notes: tuple[str, ...] = ()
    digest: str = ""


def read_photos(
    photos: Sequence[str | Path | Image.Image | Tensor], resolution: int, channels: int
) -> list[Photo]:
    """Photographs as a generator of `resolution` px and 1 or 3 `channels` would have made them.

    photos: files of any size and kind that Pillow reads, PIL's images, or uint8 tensors [3, H, W]. They are
    turned upright, put on white, cut to their centred square and brought to size by Lanczos.
    ValueError of one sentence for none, too many, and for what is no picture.
    """
    if not photos:
        raise ValueError("there is no photograph: name at least one, such as cat.jpg")
    if len(photos) > MOST:
        raise ValueError(f"{len(photos)} photographs are more than {MOST}: invert them in several calls")
    return [_read(one, number, resolution, channels) for number, one in enumerate(photos)]


def targets(photos: Sequence[Photo], device: torch.device) -> Tensor:
    """float32 [N, C, R, R] in [-1, 1]."""
    return from_uint8(torch.stack([photo.pixels for photo in photos])).to(device)


def _read(photo: str | Path | Image.Image | Tensor, number: int, resolution: int, channels: int) -> Photo:
    if isinstance(photo, str | Path):
        path = Path(photo)
        if path.is_dir():
            raise ValueError(f"{path} is a folder: name the photographs in it, such as {path}/*.jpg")
        name, data = path.name, read_regular(path, MAX_FILE_BYTES)
    else:
        name, data = f"photo {number}", _encoded(photo)
    try:
        notes = _notes(data, resolution)
        pixels = decode_image(data, resolution, Bounds(min_side=1))
    except RejectedItemError as error:
        raise ValueError(
            f"{visible(name)} cannot be read as a picture ({visible(error)}): name a JPEG, PNG or WebP"
        ) from None
    return Photo(name, to_gray(pixels) if channels == 1 else pixels, tuple(notes), short_hash(data))


def _encoded(photo: Image.Image | Tensor) -> bytes:
    """The bytes of a picture without loss, so that pictures in memory pass the same door as files."""
    if isinstance(photo, Tensor):
        if photo.dtype != torch.uint8 or photo.ndim != 3 or photo.shape[0] not in (1, 3):
            raise ValueError(
                f"a photograph of type {photo.dtype} and shape {list(photo.shape)} was given: pass uint8 "
                "[3, H, W]"
            )
        photo = Image.fromarray(photo.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy())
    stream = io.BytesIO()
    try:
        photo.save(stream, format="PNG", exif=photo.getexif())
    except (OSError, ValueError):
        photo.convert("RGB").save(stream, format="PNG")
    return stream.getvalue()


def _notes(data: bytes, resolution: int) -> list[str]:
    """What reading the picture changes, as its header tells."""
    image, notes = open_image(io.BytesIO(data), Bounds(min_side=1)), list[str]()
    turned = image.getexif().get(ORIENTATION, 1)
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"the first of {getattr(image, 'n_frames', 1)} frames was taken")
    if turned not in (0, 1):
        notes.append("turned upright as its EXIF says")
    if image.has_transparency_data:
        notes.append("put on white where it is transparent")
    if image.width != image.height:
        notes.append(f"cut to its centred square from {image.width} x {image.height}")
    side = min(image.size)
    if side != resolution:
        notes.append(f"{'reduced' if side > resolution else 'enlarged'} from {side} to {resolution} px")
    return notes
