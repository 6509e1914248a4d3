"""Interpolations put where they were asked for: numbered files, a strip with labels, an animation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgxl_t.sampling.output.animation import beside, check_animation, save_animation
from sgxl_t.sampling.output.grid import check_grid, labelled_grid
from sgxl_t.sampling.output.image_files import check_file, check_writable, names_picture, save_png
from sgxl_t.sampling.output.image_writer import note
from sgxl_t.sampling.output.recipe import Drawing, Recipe, refuse_others
from sgxl_t.sampling.sample_spec import Step

if TYPE_CHECKING:
    from sgxl_t.sampling.pipeline import Picture


@dataclass(frozen=True)
class Reel:
    """Where the pictures of interpolations go; None: nowhere.

    folder: numbered files. strip: a PNG with a row per seed. animation: .png, .gif or .webp, the seeds side
    by side, at `fps` pictures per second.
    """

    folder: str | Path | None = None
    strip: str | Path | None = None
    animation: str | Path | None = None
    fps: float = 12.0

    def check(self) -> None:
        """Raises ValueError, before anything is made, for places that cannot be written."""
        if self.folder is not None:
            if names_picture(self.folder):
                raise ValueError(
                    f"--out {self.folder} names one file: name a folder for the frames, or use --strip "
                    f"{self.folder}"
                )
            check_writable(self.folder)
        if self.strip is not None:
            check_file(self.strip)
        if self.animation is not None:
            check_animation(self.animation, self.fps)

    def check_others(self, tracks: Mapping[int, Sequence[Step]], drawing: Drawing) -> None:
        """Raises ValueError where a file is there already and holds pictures that are made otherwise.

        So are frames of a longer way, which would stand behind those of this one.
        """
        refuse_others(self._wanted(tracks, drawing))
        for seed, track in tracks.items():
            later = self._frame(seed, len(track))
            if later is not None and later.exists():
                raise ValueError(
                    f"{later} belongs to a longer way and would stand behind this one: name another folder, "
                    "or add --overwrite to leave it there"
                )

    def _wanted(
        self, tracks: Mapping[int, Sequence[Step]], drawing: Drawing
    ) -> Iterator[tuple[Path, list[Recipe]]]:
        """The files of these tracks, each with the recipe that it gets."""
        for seed, track in tracks.items():
            for number, step in enumerate(track):
                frame = self._frame(seed, number)
                if frame is not None:
                    yield frame, [drawing.recipe(step)]
        steps = [step for track in tracks.values() for step in track]
        if self.strip is not None:
            yield Path(self.strip), [drawing.together(steps)]
        if self.animation is not None:
            yield Path(self.animation), [drawing.together(steps, fps=self.fps)]

    def _frame(self, seed: int, number: int) -> Path | None:
        """The file of one picture, where they go into files."""
        return None if self.folder is None else Path(self.folder) / f"seed{seed:04d}-frame{number:04d}.png"

    def write(
        self,
        pictures: Iterable[Picture],
        tracks: Mapping[int, Sequence[Step]],
        drawing: Drawing,
        *,
        side: int,
    ) -> list[dict[str, Any]]:
        """Writes the pictures of the tracks, one track after the other; returns what lies in files.

        tracks: seed to its way, all of one length. side: of one picture, in pixels. Raises ValueError before
        the first picture is asked for where the strip would be too large.
        """
        steps, coming = next(iter(tracks.values())), iter(pictures)
        labels = [f"seed {seed}" for seed in tracks]
        if self.strip is not None:
            check_grid(side, labels, [""] * len(steps))
        notes: list[dict[str, Any]] = []
        kept: list[Picture] = []
        for seed, track in tracks.items():
            for number, picture in enumerate(islice(coming, len(track))):
                file = self._frame(seed, number)
                if file is not None:
                    save_png(picture.image, file, drawing.recipe(track[number]))
                    notes.append({**note(file, picture.condition, picture), "share": track[number].share})
                if self.strip is not None or self.animation is not None:
                    kept.append(picture)
        images, every = (
            [picture.image for picture in kept],
            [step for track in tracks.values() for step in track],
        )
        if self.strip is not None:
            titles = [
                picture.condition if step.share in (0, 1) else f"{step.share:.0%}"
                for picture, step in zip(kept, steps, strict=False)
            ]
            save_png(labelled_grid(images, labels, titles), self.strip, drawing.together(every))
        if self.animation is not None:
            moments = [beside(images[frame :: len(steps)]) for frame in range(len(steps))]
            recipe = drawing.together(every, fps=self.fps)
            save_animation(moments, self.animation, self.fps, recipe)
        return notes
