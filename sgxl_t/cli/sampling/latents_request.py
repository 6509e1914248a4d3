"""`--latents` and `--save-latents`: rows of files that are drawn, and what was drawn as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sgxl_t.sampling.latents import Latents
    from sgxl_t.sampling.pipeline import Pipeline
    from sgxl_t.sampling.sample_spec import AnySpec, LatentSpec, SampleSettings
    from sgxl_t.sampling.sheets.grid_rows import GridRow

latents_option = click.option(
    "--latents",
    "latents",
    multiple=True,
    metavar="FILE[:ROWS]",
    help="Latents in a file, all rows or some, such as photos.safetensors:0,2-4; repeatable.",
)


def check_seeds_used(latents: Sequence[str], seeds: str, *others: object) -> None:
    """ValueError for seeds beside latents alone. others: what else is drawn, which seeds are for."""
    if latents and seeds != "0" and not any(others):
        raise ValueError(
            f"--seeds {seeds} draws nothing, since rows of --latents stand for themselves: leave it out"
        )


def open_specs(pipe: Pipeline, reference: str, psis: Sequence[float] = (1.0,)) -> list[LatentSpec]:
    """The rows of FILE or FILE:ROWS with each truncation; ValueError where they do not fit the model."""
    from sgxl_t.sampling.latents import latent_specs, open_rows

    latents, rows = open_rows(reference)
    latents.check_fits(pipe.generator, pipe.model_hash, reference)
    return latent_specs(latents, psis, rows)


def latent_rows(pipe: Pipeline, references: Sequence[str], psis: Sequence[float]) -> list[GridRow]:
    """A row of a grid per file, called as the file is, with what its rows are called above the images."""
    from sgxl_t.sampling.latents import split_rows
    from sgxl_t.sampling.sheets.grid_rows import GridRow

    found: list[GridRow] = []
    for reference in references:
        name = split_rows(reference)[0].stem
        if name in {row.name for row in found}:
            raise ValueError(
                f"--latents {reference} is called like another file, whose images would have the same names: "
                "ask for them one after the other, with an --out each"
            )
        specs = open_specs(pipe, reference, psis)
        more = [f", psi {spec.psi:g}" if len(psis) > 1 else "" for spec in specs]
        titles = tuple(spec.name + psi for spec, psi in zip(specs, more, strict=True))
        found.append(GridRow(name, name, tuple(specs), titles))
    return found


@dataclass(frozen=True)
class LatentsFile:
    """Where the latents of what is drawn go; None: nowhere."""

    file: str | None

    def check(self) -> None:
        """ValueError, before anything is made, for a file that cannot be written."""
        from sgxl_t.sampling.latents import check_latents_file
        from sgxl_t.sampling.output.image_files import check_writable

        if self.file is not None:
            check_writable(check_latents_file(self.file).parent)

    def check_existing(self, pipe: Pipeline, specs: Sequence[AnySpec], settings: SampleSettings) -> None:
        """ValueError where the file is there and holds other latents; with best-of nobody knows before."""
        if self.file is None or not Path(self.file).exists():
            return
        _refuse_others(self.file, None if settings.best_of > 1 else pipe.latents_of(specs, settings))

    def write(self, pipe: Pipeline, specs: Sequence[AnySpec], settings: SampleSettings) -> str | None:
        """Writes the latents of specs; returns the file."""
        if self.file is None:
            return None
        from dataclasses import replace

        return str(pipe.latents_of(specs, replace(settings, best_of=1, clip=None)).save(self.file))


def keep_latents(file: str, latents: Latents, *, overwrite: bool) -> None:
    """Writes them; ValueError where the file is there and holds something else."""
    if Path(file).exists() and not overwrite:
        _refuse_others(file, latents)
    latents.save(file)


def _refuse_others(file: str, wanted: Latents | None) -> None:
    """ValueError unless a file holds these latents. wanted: None where nobody knows them."""
    from sgxl_t.sampling.latents import Latents

    try:
        held: Latents | None = Latents.open(file)
    except ValueError:
        held = None
    if wanted is None or not _equal(held, wanted):
        raise ValueError(
            f"{file} is there already and holds something else: name another file, or add --overwrite to "
            "replace it"
        )


def _equal(held: Latents | None, wanted: Latents) -> bool:
    if held is None or held.ws.shape != wanted.ws.shape or held.model != wanted.model:
        return False
    return held.names == wanted.names and held.ws.equal(wanted.ws)
