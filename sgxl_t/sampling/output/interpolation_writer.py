"""Writes walks and moves where they were asked for: numbered files, a strip with labels, a film."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sgxl_t.sampling.image import GeneratedImage
from sgxl_t.sampling.output.animation import check_animation, save_animation, tiled
from sgxl_t.sampling.output.grid import check_grid, labelled_grid
from sgxl_t.sampling.output.image_files import check_file, check_writable, names_image, save_png
from sgxl_t.sampling.output.image_writer import note
from sgxl_t.sampling.output.recipe import Recipe, Recipes, refuse_overwriting
from sgxl_t.sampling.sample_spec import InterpolationFrame, MovedFrame

MAX_BESIDE = 8
"""Walks in a row of a film at most, unless a number is asked for."""
Frame = InterpolationFrame | MovedFrame


@dataclass(frozen=True)
class Track:
    """One walk. label: beside its images; stem: what its files are called."""

    label: str
    stem: str
    frames: Sequence[Frame]


@dataclass(frozen=True)
class InterpolationWriter:
    """Writes the images of tracks; None: not written.

    folder: numbered files. strip: a PNG with a row per track. animation: .png, .gif, .webp or .mp4 with the
    tracks side by side, `columns` in a row (None: up to eight, or near-square), each image enlarged by a
    whole factor `scale`, at `fps` images per second.
    """

    folder: str | Path | None = None
    strip: str | Path | None = None
    animation: str | Path | None = None
    fps: float = 12.0
    columns: int | None = None
    scale: int = 1

    def check(self) -> None:
        """Raises ValueError, before anything is made, for places that cannot be written."""
        if self.folder is not None:
            if names_image(self.folder):
                raise ValueError(
                    f"--out {self.folder} names one file: name a folder for the frames, or use --strip "
                    f"{self.folder}"
                )
            check_writable(self.folder)
        if self.strip is not None:
            check_file(self.strip)
        if self.animation is not None:
            check_animation(self.animation, self.fps)
        if self.scale < 1 or (self.columns is not None and self.columns < 1):
            raise ValueError(f"scale={self.scale} and columns={self.columns} of a film: use 1 or more")

    def check_existing(self, tracks: Sequence[Track], recipes: Recipes) -> None:
        """Raises ValueError where a file is there already and holds images that are made otherwise.

        So are frames of a longer way, which would stand behind those of this one.
        """
        refuse_overwriting(self._wanted(tracks, recipes))
        for track in tracks:
            later = self._frame(track, len(track.frames))
            if later is not None and later.exists():
                raise ValueError(
                    f"{later} belongs to a longer way and would stand behind this one: name another folder, "
                    "or add --overwrite to leave it there"
                )

    def _wanted(self, tracks: Sequence[Track], recipes: Recipes) -> Iterator[tuple[Path, list[Recipe]]]:
        """The files of these tracks, each with the recipe that it gets."""
        for track in tracks:
            for number, frame in enumerate(track.frames):
                file = self._frame(track, number)
                if file is not None:
                    yield file, [recipes.of(frame)]
        if self.strip is not None:
            yield Path(self.strip), [recipes.of_many(_every(tracks))]
        if self.animation is not None:
            yield Path(self.animation), [self._film_recipe(tracks, recipes)]

    def _film_recipe(self, tracks: Sequence[Track], recipes: Recipes) -> Recipe:
        layout = {"columns": self.columns, "scale": self.scale}
        set_apart = {name: value for name, value in layout.items() if value not in (None, 1)}
        return recipes.of_many(_every(tracks), fps=self.fps, **set_apart)

    def _frame(self, track: Track, number: int) -> Path | None:
        """The file of one image, where they go into files."""
        return None if self.folder is None else Path(self.folder) / f"{track.stem}-frame{number:04d}.png"

    def write(
        self,
        images: Iterable[GeneratedImage],
        tracks: Sequence[Track],
        recipes: Recipes,
        *,
        resolution: int,
    ) -> list[dict[str, Any]]:
        """Writes the images of the tracks; returns what lies in files.

        images: the first frame of every track, then the second of every track, and so on, so that an MP4
        needs no more memory than a frame. tracks: all of one length. resolution: of one image, in pixels.
        Raises ValueError before the first image is asked for where the strip would be too large.
        """
        if self.strip is not None:
            check_grid(resolution, [track.label for track in tracks], [""] * len(tracks[0].frames))
        made = _Made(tracks)
        film = self._film(iter(images), made, recipes)
        if self.animation is None:
            for _ in film:
                pass
        else:
            save_animation(film, self.animation, self.fps, self._film_recipe(tracks, recipes))
        if self.strip is not None:
            drawn = labelled_grid(*made.strip())
            save_png(drawn, self.strip, recipes.of_many(_every(tracks)))
        return [one for track in made.notes for one in track]

    def _film(self, images: Iterator[GeneratedImage], made: _Made, recipes: Recipes) -> Iterator[Image.Image]:
        """The frames of a film, whose images are saved and noted on the way as asked."""
        tracks = made.tracks
        count = len(tracks)
        usual = count if count <= MAX_BESIDE else math.ceil(math.sqrt(count))
        for number in range(len(tracks[0].frames)):
            moment = [next(images) for _ in tracks]
            for place, (track, image) in enumerate(zip(tracks, moment, strict=True)):
                frame, file = track.frames[number], self._frame(track, number)
                if file is not None:
                    save_png(image.image, file, recipes.of(frame))
                    share = {"share": frame.share} if isinstance(frame, InterpolationFrame) else {}
                    made.notes[place].append({**note(file, image.condition, image), **share})
                if self.strip is not None:
                    made.shown[place].append(image)
            yield tiled([one.image for one in moment], self.columns or usual, self.scale)


@dataclass
class _Made:
    """What is known of the images so far, by track: notes of their files, and those that a strip shows."""

    tracks: Sequence[Track]
    notes: list[list[dict[str, Any]]] = field(default_factory=list)
    shown: list[list[GeneratedImage]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.notes, self.shown = [[] for _ in self.tracks], [[] for _ in self.tracks]

    def strip(self) -> tuple[list[Image.Image], list[str], list[str]]:
        """Images, labels of rows and titles of columns."""
        titles = [
            _title(frame, image) for frame, image in zip(self.tracks[0].frames, self.shown[0], strict=True)
        ]
        labels = [track.label for track in self.tracks]
        return [image.image for row in self.shown for image in row], labels, titles


def _title(frame: Frame, image: GeneratedImage) -> str:
    if isinstance(frame, MovedFrame):
        moved = f"{frame.right:.2f}, {frame.down:.2f}" if frame.right or frame.down else "unmoved"
        return f"{frame.degrees:.0f} deg" if frame.degrees else moved
    return image.condition if frame.share in (0, 1) else f"{frame.share:.0%}"


def _every(tracks: Sequence[Track]) -> list[Frame]:
    return [frame for track in tracks for frame in track.frames]
