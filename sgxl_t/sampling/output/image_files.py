"""Images on disk: names people can read, files that are whole or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sgxl_t.files.whole import whole_file

KEY = "sgxl-t"
"""Under it a PNG holds what it was made from."""
MAX_NAME = 80
OTHER_FORMATS = (".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".mp4")


def image_names(conditions: Sequence[str], *, exact: bool = False) -> dict[str, str]:
    """Stem of the file names of each prompt or class, such as `a-red-fox-in-snow`; all differ.

    Plain letters, digits and dashes on every system. What loses more than case and commas (long names, other
    scripts, other signs) or would be called like another gets eight digits of its hash.
    exact: so does what loses anything but spaces. Case and commas change what a text encoder reads, so
    prompts must not share a name, today's neither with each other nor with tomorrow's.
    """
    names = {condition: _slug(condition) for condition in conditions}
    shared = Counter(names.values())
    for condition, name in names.items():
        loose = re.sub(r"[-_,.\s]+", " ", condition.lower()).strip().replace(" ", "-")
        expected = condition.replace(" ", "-") if exact else loose
        if not name or name != expected or len(name) > MAX_NAME or shared[name] > 1:
            digest = hashlib.sha256(condition.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            names[condition] = "-".join(part for part in (name[:MAX_NAME].strip("-"), digest) if part)
    return names


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def save_png(image: Image.Image, path: str | Path, recipe: Mapping[str, Any] | None = None) -> Path:
    """Writes one PNG aside and renames it; returns the path. ValueError when the folder cannot take it.

    recipe: what the image is made from, which the file then holds as JSON text.
    """
    known = PngInfo()
    if recipe is not None:
        known.add_text(KEY, json.dumps(recipe))
    return save_whole(path, lambda stream: image.save(stream, format="PNG", pnginfo=known))


def save_whole(path: str | Path, write: Callable[[IO[bytes]], None]) -> Path:
    """Lets `write` fill a file beside the path, which takes its name once it is whole; returns the path."""
    path = check_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, flush=False) as aside, aside.open("xb") as stream:
        write(stream)
    return path


def check_file(path: str | Path) -> Path:
    """The path itself when an image can be written there; ValueError of one sentence otherwise."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file, such as {path / 'grid.png'}")
    check_writable(path.parent)
    return path


def names_image(path: str | Path) -> bool:
    """Whether a path is called like a PNG and is no folder; ValueError for images of other formats."""
    suffix, folder = Path(path).suffix.lower(), Path(path).is_dir()
    if suffix in OTHER_FORMATS and not folder:
        raise ValueError(
            f"{path} does not end in .png: images are written as PNG, so name a .png or a folder"
        )
    return suffix == ".png" and not folder


def check_writable(folder: str | Path) -> Path:
    """The folder itself when images can be written into it; ValueError of one sentence otherwise.

    It is not made yet: a request that fails later for another reason leaves nothing behind.
    """
    folder = Path(folder)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        if not existing.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{existing} is a file")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"{folder} cannot be written ({reason}): name another folder") from None
    return folder
