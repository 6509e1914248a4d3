"""Images as a film in MP4 (H.264) through PyAV, which the extra `[video]` brings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sgxl_t.files.whole import whole_file

ENDING = ".mp4"
QUALITY = "14"
"""Constant rate factor of H.264: 0 is lossless, 18 hardly to be told from it."""


def check_video(path: Path) -> None:
    """ValueError where nothing here writes MP4."""
    if find_spec("av") is None:
        raise ValueError(
            f"{path} needs PyAV: install it with pip install 'sgxl-t[video]', or name it {path.stem}.webp"
        )


def save_video(
    images: Iterable[Image.Image], path: Path, fps: float, recipe: Mapping[str, Any] | None = None
) -> None:
    """Writes RGB images of one size, one by one as they come, whole or not at all.

    Sides must be even, as those of all generators are. recipe: what they are made from, which the file then
    holds as its comment.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, flush=False) as aside, av.open(str(aside), "w", format="mp4") as film:
        if recipe is not None:
            film.metadata["comment"] = json.dumps(recipe)
        stream: Any = None
        for image in images:
            if stream is None:
                stream = film.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
                stream.width, stream.height, stream.pix_fmt = *image.size, "yuv420p"
                stream.options = {"crf": QUALITY, "preset": "slow"}
            frame = av.VideoFrame.from_ndarray(np.asarray(image.convert("RGB")), format="rgb24")
            film.mux(stream.encode(frame))
        film.mux(stream.encode())


def comment_of(path: Path) -> str | None:
    """The comment of an MP4; None where it has none, or nothing here reads it."""
    if find_spec("av") is None:
        return None
    import av

    try:
        with av.open(str(path)) as film:
            return film.metadata.get("comment")
    except (av.error.FFmpegError, OSError):
        return None
