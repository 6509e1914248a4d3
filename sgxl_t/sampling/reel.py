"""Interpolations put where they were asked for: numbered files, a strip with labels, an animation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgxl_t.sampling.album import note
from sgxl_t.sampling.animation import beside, check_animation, save_animation
from sgxl_t.sampling.files import check_file, check_writable, save_png
from sgxl_t.sampling.grid import check_grid, labelled_grid
from sgxl_t.sampling.shots import Step

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
            check_writable(self.folder)
        if self.strip is not None:
            check_file(self.strip)
        if self.animation is not None:
            check_animation(self.animation, self.fps)

    def write(
        self, pictures: Iterable[Picture], tracks: Mapping[int, Sequence[Step]], *, side: int
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
            for frame, picture in enumerate(islice(coming, len(track))):
                if self.folder is not None:
                    file = Path(self.folder) / f"seed{seed:04d}-frame{frame:04d}.png"
                    save_png(picture.image, file)
                    notes.append({**note(file, picture.condition, picture), "share": track[frame].share})
                if self.strip is not None or self.animation is not None:
                    kept.append(picture)
        images = [picture.image for picture in kept]
        if self.strip is not None:
            titles = [
                picture.condition if step.share in (0, 1) else f"{step.share:.0%}"
                for picture, step in zip(kept, steps, strict=False)
            ]
            save_png(labelled_grid(images, labels, titles), self.strip)
        if self.animation is not None:
            moments = [beside(images[frame :: len(steps)]) for frame in range(len(steps))]
            save_animation(moments, self.animation, self.fps)
        return notes
