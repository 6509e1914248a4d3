"""Writes interpolations where they were asked for: numbered files, a strip with labels, an animation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sgxl_t.sampling.image import GeneratedImage
from sgxl_t.sampling.output.animation import beside, check_animation, save_animation
from sgxl_t.sampling.output.grid import check_grid, labelled_grid
from sgxl_t.sampling.output.image_files import check_file, check_writable, names_image, save_png
from sgxl_t.sampling.output.image_writer import note
from sgxl_t.sampling.output.recipe import Recipe, Recipes, refuse_overwriting
from sgxl_t.sampling.sample_spec import InterpolationFrame


@dataclass(frozen=True)
class InterpolationWriter:
    """Writes the images of interpolations; None: not written.

    folder: numbered files. strip: a PNG with a row per seed. animation: .png, .gif or .webp, the seeds side
    by side, at `fps` images per second.
    """

    folder: str | Path | None = None
    strip: str | Path | None = None
    animation: str | Path | None = None
    fps: float = 12.0

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

    def check_existing(self, tracks: Mapping[int, Sequence[InterpolationFrame]], recipes: Recipes) -> None:
        """Raises ValueError where a file is there already and holds images that are made otherwise.

        So are frames of a longer way, which would stand behind those of this one.
        """
        refuse_overwriting(self._wanted(tracks, recipes))
        for seed, track in tracks.items():
            later = self._frame(seed, len(track))
            if later is not None and later.exists():
                raise ValueError(
                    f"{later} belongs to a longer way and would stand behind this one: name another folder, "
                    "or add --overwrite to leave it there"
                )

    def _wanted(
        self, tracks: Mapping[int, Sequence[InterpolationFrame]], recipes: Recipes
    ) -> Iterator[tuple[Path, list[Recipe]]]:
        """The files of these tracks, each with the recipe that it gets."""
        for seed, track in tracks.items():
            for number, frame in enumerate(track):
                file = self._frame(seed, number)
                if file is not None:
                    yield file, [recipes.of(frame)]
        every = [frame for track in tracks.values() for frame in track]
        if self.strip is not None:
            yield Path(self.strip), [recipes.of_many(every)]
        if self.animation is not None:
            yield Path(self.animation), [recipes.of_many(every, fps=self.fps)]

    def _frame(self, seed: int, number: int) -> Path | None:
        """The file of one image, where they go into files."""
        return None if self.folder is None else Path(self.folder) / f"seed{seed:04d}-frame{number:04d}.png"

    def write(
        self,
        images: Iterable[GeneratedImage],
        tracks: Mapping[int, Sequence[InterpolationFrame]],
        recipes: Recipes,
        *,
        resolution: int,
    ) -> list[dict[str, Any]]:
        """Writes the images of the tracks, one track after the other; returns what lies in files.

        tracks: seed to its way, all of one length. resolution: of one image, in pixels. Raises
        ValueError before the first image is asked for where the strip would be too large.
        """
        track_of_one = next(iter(tracks.values()))
        labels, coming = [f"seed {seed}" for seed in tracks], iter(images)
        if self.strip is not None:
            check_grid(resolution, labels, [""] * len(track_of_one))
        notes: list[dict[str, Any]] = []
        shown: list[GeneratedImage] = []
        for seed, track in tracks.items():
            for number, image in enumerate(islice(coming, len(track))):
                file = self._frame(seed, number)
                if file is not None:
                    save_png(image.image, file, recipes.of(track[number]))
                    notes.append({**note(file, image.condition, image), "share": track[number].share})
                if self.strip is not None or self.animation is not None:
                    shown.append(image)
        every = [frame for track in tracks.values() for frame in track]
        if self.strip is not None:
            titles = [
                image.condition if frame.share in (0, 1) else f"{frame.share:.0%}"
                for image, frame in zip(shown, track_of_one, strict=False)
            ]
            strip = labelled_grid([image.image for image in shown], labels, titles)
            save_png(strip, self.strip, recipes.of_many(every))
        if self.animation is not None:
            length = len(track_of_one)
            frames = [beside([image.image for image in shown[at::length]]) for at in range(length)]
            save_animation(frames, self.animation, self.fps, recipes.of_many(every, fps=self.fps))
        return notes
