"""From what `sgxl-t interpolate` is asked to tracks: which keys each walk passes, which pictures move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgxl_t.cli.sampling.latents_request import open_specs
from sgxl_t.cli.sampling.sample_request import resolve_entries

if TYPE_CHECKING:
    from sgxl_t.sampling.output.interpolation_writer import Track
    from sgxl_t.sampling.pipeline import Pipeline
    from sgxl_t.sampling.prompt_file import PromptLine
    from sgxl_t.sampling.sample_spec import Drawable, LatentSpec
    from sgxl_t.sampling.sheets.grid_rows import ConditionEntry
    from sgxl_t.sampling.walks.plan import WalkSettings

Subject = Any
"""A `ConditionEntry`, which any seed goes with, or a `LatentSpec`, which stands for itself."""


@dataclass(frozen=True)
class WalkRequest:
    """What the keys of walks are: subjects, seeds, psi."""

    subjects: Sequence[Subject]
    seeds: Sequence[int]
    psi: float

    def tracks(
        self, pipe: Pipeline, settings: WalkSettings, count: int | None, move: str | None
    ) -> list[Track]:
        """Walks, or with a move the pictures that move."""
        if move is None:
            return self.walks(settings, pipe.condition.kind, count)
        return self.moves(pipe, move, settings.frames)

    def walks(self, settings: WalkSettings, kind: str, count: int | None) -> list[Track]:
        """A walk through all subjects for each seed or, of a single subject, through the seeds.

        count: deals the keys out to so many walks each; None for one.
        """
        from sgxl_t.sampling.output.interpolation_writer import Track
        from sgxl_t.sampling.walks.plan import dealt, plan_interpolation

        alone = len(self.subjects) == 1 and self._seeds_matter
        runs = [(None, self._all())] if alone else [(seed, self._keys(seed)) for seed in self._each]
        tracks = []
        for seed, keys in runs:
            parts = [keys] if count is None else dealt(keys, count)
            for number, part in enumerate(parts):
                words = [] if seed is None else [f"seed {seed}"]
                words += [f"walk {number}"] if len(parts) > 1 else []
                stem = (
                    [f"seed{keys[0].seed if seed is None else seed:04d}"] if self._seeds_matter else ["walk"]
                )
                stem += [f"walk{number:02d}"] if len(parts) > 1 else []
                frames = plan_interpolation(part, settings, kind)
                tracks.append(Track(", ".join(words) or "walk", "-".join(stem), frames))
        return tracks

    def moves(self, pipe: Pipeline, move: str, frames: int) -> list[Track]:
        """A track for each picture that moves: every subject with every seed."""
        from sgxl_t.sampling.output.image_files import image_names
        from sgxl_t.sampling.output.interpolation_writer import Track
        from sgxl_t.sampling.walks.move import input_of, plan_move

        input_of(pipe.generator)
        specs = [spec for subject in self.subjects for spec in self._of(subject)]
        labels = [spec.label(pipe.condition) for spec in specs]
        seeded = [
            label if spec.seed is None else f"{label}, seed {spec.seed}"
            for label, spec in zip(labels, specs, strict=True)
        ]
        names = image_names(seeded)
        return [
            Track(label, f"{names[label]}-{move}", plan_move(spec, frames, move))
            for label, spec in zip(seeded, specs, strict=True)
        ]

    @property
    def _seeds_matter(self) -> bool:
        """Whether any key is drawn from a seed of the request."""
        return any(_is_entry(subject) for subject in self.subjects)

    @property
    def _each(self) -> Sequence[int]:
        return self.seeds if self._seeds_matter else self.seeds[:1]

    def _all(self) -> list[Drawable]:
        return [spec for subject in self.subjects for spec in self._of(subject)]

    def _keys(self, seed: int) -> list[Drawable]:
        return [one.spec(seed, self.psi) if _is_entry(one) else one for one in self.subjects]

    def _of(self, subject: Subject) -> list[Drawable]:
        """A subject with each seed; one that has its own, and a row of latents, once."""
        if not _is_entry(subject):
            return [subject]
        seeds = self.seeds if subject.seed is None else self.seeds[:1]
        return [subject.spec(seed, self.psi) for seed in seeds]


def read_subjects(
    pipe: Pipeline,
    prompts: Sequence[str],
    classes: Sequence[str],
    lines: Sequence[PromptLine],
    latents: Sequence[str],
    psi: float,
) -> list[Subject]:
    """Prompts, classes, lines of a file, rows of latents, in this order; without any what the model draws.

    A line may name rows of latents (photos.safetensors:0), which then have their place among the lines.
    psi: pulls rows of latents further than they were.
    """
    found: list[Subject] = []
    if prompts or classes or not (lines or latents):
        found += resolve_entries(pipe, prompts, classes, [])
    for line in lines:
        if ".safetensors" in line.text.lower():
            found += _rows(pipe, line.text, psi if line.psi is None else line.psi)
        else:
            found += resolve_entries(pipe, [], [], [line])
    for reference in latents:
        found += _rows(pipe, reference, psi)
    return found


def _rows(pipe: Pipeline, reference: str, psi: float) -> list[LatentSpec]:
    return open_specs(pipe, reference, [psi])


def _is_entry(subject: ConditionEntry | LatentSpec) -> bool:
    from sgxl_t.sampling.sheets.grid_rows import ConditionEntry

    return isinstance(subject, ConditionEntry)
