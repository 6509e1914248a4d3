"""Images one after the other in one file that every browser plays: animated PNG, GIF or WebP."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from sgxl_t.sampling.output.image_files import KEY, check_file, save_whole

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"default_image": False}),
    ".gif": ("GIF", {}),
    ".webp": ("WEBP", {"lossless": True}),
}
"""Ending to the format and what Pillow is told about it. GIF keeps 256 colours of an image."""
FASTEST = 50.0
"""Images per second; GIF counts hundredths of a second, and players slow down shorter ones than two."""


def check_animation(file: str | Path, fps: float) -> Path:
    """The file; ValueError for other endings, places that cannot be written and other speeds."""
    path = Path(file)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path} does not end in {', '.join(FORMATS)}: name it {path.stem or 'film'}.webp")
    if path.suffix.lower() == ".webp" and not features.check("webp"):
        raise ValueError(f"{path} needs a Pillow that writes WebP: name it {path.stem}.png instead")
    if not 0.1 <= fps <= FASTEST:
        raise ValueError(f"fps={fps} is out of range: use 0.1 to {FASTEST:g} images per second, such as 12")
    return check_file(path)


def save_animation(
    images: Sequence[Image.Image],
    file: str | Path,
    fps: float = 12.0,
    recipe: Mapping[str, Any] | None = None,
) -> Path:
    """Writes RGB images of one size as an endless animation, whole or not at all; returns the path.

    fps: images per second. recipe: what they are made from, which the file then holds as JSON text.
    ValueError as in `check_animation`.
    """
    path = check_animation(file, fps)
    kind, options = FORMATS[path.suffix.lower()]
    if recipe is not None:
        options = {**options, **_known(kind, json.dumps(recipe))}

    def write(stream: IO[bytes]) -> None:
        rest = list(images[1:])
        shown = round(1000 / fps)
        images[0].save(
            stream, format=kind, save_all=True, append_images=rest, duration=shown, loop=0, **options
        )

    return save_whole(path, write)


def _known(kind: str, text: str) -> dict[str, Any]:
    """What Pillow is told to write the text into a file."""
    if kind != "PNG":
        return {"GIF": {"comment": text.encode()}, "WEBP": {"xmp": text.encode()}}[kind]
    known = PngInfo()
    known.add_text(KEY, text)
    return {"pnginfo": known}


def beside(images: Sequence[Image.Image]) -> Image.Image:
    """Equal images side by side in one."""
    width, height = images[0].size
    row = Image.new("RGB", (width * len(images), height))
    for number, image in enumerate(images):
        row.paste(image, (number * width, 0))
    return row
