"""Images one after the other in one file that every browser plays: animated PNG, GIF or WebP, or MP4."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from sgxl_t.sampling.output.image_files import KEY, check_file, save_whole
from sgxl_t.sampling.output.video import ENDING, check_video, save_video

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"default_image": False}),
    ".gif": ("GIF", {}),
    ".webp": ("WEBP", {"lossless": True}),
}
"""Ending to the format and what Pillow is told about it. GIF keeps 256 colours of an image."""
FASTEST, FASTEST_VIDEO = 50.0, 120.0
"""Images per second; GIF counts hundredths of a second, and players slow down shorter ones than two."""


def check_animation(file: str | Path, fps: float) -> Path:
    """The file; ValueError for other endings, places that cannot be written and other speeds."""
    path = Path(file)
    ending = path.suffix.lower()
    if ending not in (*FORMATS, ENDING):
        known = ", ".join((*FORMATS, ENDING))
        raise ValueError(f"{path} does not end in {known}: name it {path.stem or 'film'}.webp")
    if ending == ENDING:
        check_video(path)
    if ending == ".webp" and not features.check("webp"):
        raise ValueError(f"{path} needs a Pillow that writes WebP: name it {path.stem}.png instead")
    fastest = FASTEST_VIDEO if ending == ENDING else FASTEST
    if not 0.1 <= fps <= fastest:
        raise ValueError(f"fps={fps} is out of range: use 0.1 to {fastest:g} images per second, such as 12")
    return check_file(path)


def save_animation(
    images: Iterable[Image.Image],
    file: str | Path,
    fps: float = 12.0,
    recipe: Mapping[str, Any] | None = None,
) -> Path:
    """Writes RGB images of one size as a film, whole or not at all; returns the path.

    They may come one by one. All formats but MP4 are played without end. fps: images per second. recipe: what
    they are made from, which the file then holds as JSON text.
    ValueError as in `check_animation`.
    """
    path = check_animation(file, fps)
    if path.suffix.lower() == ENDING:
        save_video(images, path, fps, recipe)
        return path
    kind, options = FORMATS[path.suffix.lower()]
    if recipe is not None:
        options = {**options, **_known(kind, json.dumps(recipe))}

    def write(stream: IO[bytes]) -> None:
        # Pillow goes over the images of a PNG more than once, to choose its mode.
        coming, shown = iter(images), round(1000 / fps)
        first, rest = next(coming), list(coming) if kind == "PNG" else coming
        first.save(stream, format=kind, save_all=True, append_images=rest, duration=shown, loop=0, **options)

    return save_whole(path, write)


def _known(kind: str, text: str) -> dict[str, Any]:
    """What Pillow is told to write the text into a file."""
    if kind != "PNG":
        return {"GIF": {"comment": text.encode()}, "WEBP": {"xmp": text.encode()}}[kind]
    known = PngInfo()
    known.add_text(KEY, text)
    return {"pnginfo": known}


def tiled(images: Sequence[Image.Image], columns: int, scale: int = 1) -> Image.Image:
    """Equal images side by side in one, `columns` in a row, each pixel enlarged to scale x scale."""
    width, height = (side * scale for side in images[0].size)
    columns = min(columns, len(images))
    sheet = Image.new("RGB", (width * columns, height * -(-len(images) // columns)))
    for number, image in enumerate(images):
        larger = image if scale == 1 else image.resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(larger, (number % columns * width, number // columns * height))
    return sheet
