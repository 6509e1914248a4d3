"""How the samples of a run changed: small frames of its grids over time, and timelapse.webp made of them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torchvision.transforms.functional import to_pil_image

from sgxl_t.files.whole import whole_file
from sgxl_t.training.callbacks.callback import Callback, Snapshot
from sgxl_t.training.train_state import TrainState

FRAMES, TIMELAPSE = "frames", "timelapse.webp"
"""The folder of frames below samples/, and the film in the run folder."""
MOST_FRAMES = 32
"""Of one run; of more, those stay that are spread most evenly."""
LONGEST = 448
"""Longer side of a frame without its caption, in pixels, at most."""
FRAME_MS, LAST_MS = 350, 2500
QUALITY = 70
TEXT, PAPER, INK = 16, (255, 255, 255), (40, 40, 40)
_NAME = re.compile(r"kimg_(?P<kimg>\d+\.\d+)(_min_(?P<minutes>\d+\.\d+))?\.webp")


@dataclass(frozen=True)
class Frame:
    """A small picture of a sample grid. minutes: of training until then; None where nobody measured it."""

    path: Path
    kimg: float
    minutes: float | None

    @property
    def caption(self) -> str:
        """When it was made, in words."""
        return when(self.kimg, self.minutes)


def when(kimg: float, minutes: float | None) -> str:
    """A moment of a run in words."""
    passed = "" if minutes is None else f", {minutes:.1f} min" if minutes < 60 else f", {minutes / 60:.1f} h"
    return f"{kimg:.0f} kimg{passed}" if kimg >= 1000 else f"{kimg:.4g} kimg{passed}"


def read_frames(run: Path) -> list[Frame]:
    """The frames of a run folder, oldest first; [] where it has none."""
    frames = []
    for path in (run / "samples" / FRAMES).glob("*.webp"):
        if match := _NAME.fullmatch(path.name):
            minutes = match["minutes"]
            frames.append(Frame(path, float(match["kimg"]), None if minutes is None else float(minutes)))
    return sorted(frames, key=lambda frame: frame.kimg)


def spread(frames: Sequence[Frame], count: int) -> list[Frame]:
    """At most `count` of the frames, evenly over their order, the first and the last among them."""
    if len(frames) <= count:
        return list(frames)
    last = len(frames) - 1
    return [frames[number * last // (count - 1)] for number in range(count)]


def write_timelapse(frames: Sequence[Frame], path: Path) -> None:
    """An endless film of the frames, on white where they differ in size; whole or not at all."""
    images = []
    for frame in frames:
        with Image.open(frame.path) as image:
            images.append(image.convert("RGB"))
    size = max(image.width for image in images), max(image.height for image in images)
    images = [image if image.size == size else _on_paper(image, size) for image in images]
    shown = [FRAME_MS] * (len(images) - 1) + [LAST_MS]
    with whole_file(path) as aside:
        images[0].save(
            aside,
            format="WEBP",
            save_all=True,
            append_images=images[1:],
            duration=shown,
            loop=0,
            quality=QUALITY,
            method=0,
        )


class Timelapse(Callback):
    """Keeps a frame of every grid, of previews as well, and timelapse.webp up to date.

    On resume, frames past the checkpoint go, and minutes are counted on from the newest one.
    """

    def __init__(self, folder: Path, *, resolution: int) -> None:
        """folder: of the run. resolution: of its images, for the captions."""
        self._folder, self._resolution = folder, resolution

    def on_start(self, state: TrainState) -> None:
        """Takes up the frames that are there; of a run that has none yet, its older grids."""
        frames = self._folder / "samples" / FRAMES
        if not frames.is_dir():
            frames.mkdir(parents=True)
            for path in sorted((self._folder / "samples").glob("fakes_*.png")):
                kimg = _kimg_of(path)
                if kimg is not None and 1000 * kimg <= state.images_seen:
                    with Image.open(path) as image:
                        self._keep(image.convert("RGB"), kimg, None)
        for frame in read_frames(self._folder):
            if round(1000 * frame.kimg) > state.images_seen:
                frame.path.unlink()
        known = [frame.minutes for frame in read_frames(self._folder) if frame.minutes is not None]
        self._minutes_before, self._since = max(known, default=0.0), time.monotonic()

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Adds the grid."""
        assert snapshot.grid is not None, "the grid comes before"
        minutes = self._minutes_before + (time.monotonic() - self._since) / 60
        self._keep(to_pil_image(snapshot.grid[0]), snapshot.kimg, minutes)
        write_timelapse(read_frames(self._folder), self._folder / TIMELAPSE)

    def on_preview(self, snapshot: Snapshot) -> None:
        """Adds the grid."""
        self.on_snapshot(snapshot)

    def _keep(self, grid: Image.Image, kimg: float, minutes: float | None) -> None:
        """Writes a frame; takes out the ones that are too many."""
        for frame in read_frames(self._folder):
            if frame.kimg == round(kimg, 3):
                frame.path.unlink()
        grid.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
        passed = "" if minutes is None else f"_min_{minutes:07.1f}"
        path = self._folder / "samples" / FRAMES / f"kimg_{kimg:010.3f}{passed}.webp"
        caption = f"{self._resolution} px, {when(kimg, minutes)}"
        with whole_file(path) as aside:
            _captioned(grid, caption).save(aside, format="WEBP", quality=QUALITY, method=2)
        frames = read_frames(self._folder)
        while len(frames) > MOST_FRAMES:
            gaps = [later.kimg - earlier.kimg for earlier, later in zip(frames, frames[2:], strict=False)]
            frames.pop(1 + gaps.index(min(gaps))).path.unlink()


def _kimg_of(grid: Path) -> float | None:
    """The position that the name of a grid says; None for other names."""
    try:
        return float(grid.stem.partition("_")[2])
    except ValueError:
        return None


def _captioned(image: Image.Image, text: str) -> Image.Image:
    """The image with a line of text below."""
    framed = _on_paper(image, (image.width, image.height + TEXT + 8))
    font = ImageFont.load_default(TEXT)
    ImageDraw.Draw(framed).text((4, image.height + 2), text, font=font, fill=INK)
    return framed


def _on_paper(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image in the upper left corner of white paper."""
    paper = Image.new("RGB", size, PAPER)
    paper.paste(image, (0, 0))
    return paper
