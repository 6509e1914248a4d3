"""`sgxl-t grid`: sheets that compare images: sweeps, style mixing, stages of a chain, nearest images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sgxl_t.cli.sampling.latents_request import check_seeds_used, latent_rows, latents_option
from sgxl_t.cli.sampling.sample_request import (
    RuntimeOptions,
    grid_label,
    note_reading,
    overwrite_option,
    resolve_entries,
    runtime_options,
    subject_options,
    truncation_options,
)
from sgxl_t.files.terminal import say, say_json

if TYPE_CHECKING:
    from PIL import Image

    from sgxl_t.sampling.output.recipe import Recipe
    from sgxl_t.sampling.pipeline import Pipeline
    from sgxl_t.sampling.prompt_file import PromptLine
    from sgxl_t.sampling.sample_spec import AnySpec, Drawable, SampleSettings
    from sgxl_t.sampling.sheets.grid_rows import GridRow

EXAMPLES = """\b
Examples:
  sgxl-t grid "a red fox in snow" "a blue car at night" --seeds 0-3 --psi 0.5,1 --out psi.png
  sgxl-t grid "a red fox in snow" --mix "a blue car at night" --mix "a dog" --layers 0-4 --layers 5-9
  sgxl-t grid --model runs/photos --seeds 0-3 --mix-seeds 8-11 --layers 0-6 --out mix.png
  sgxl-t grid --stage runs/photos --class fox --seeds 0-3 --out stages.png
  sgxl-t grid --model runs/photos --seeds 0-7 --nearest photos/ --out nearest.png"""


@click.command(epilog=EXAMPLES)
@subject_options
@latents_option
@click.option(
    "--psi", default="1", show_default=True, metavar="LIST", help="Truncations, such as 0.7 or 0.3,0.5,1."
)
@truncation_options
@click.option(
    "--mix",
    "mixes",
    multiple=True,
    metavar="PROMPT",
    help="A column of a style-mixing table: a prompt or class whose styles take over --layers; repeatable.",
)
@click.option("--mix-seeds", metavar="LIST", help="Seeds of the columns [default: the first of --seeds].")
@click.option(
    "--layers",
    multiple=True,
    metavar="LIST",
    help="Layers that columns take over, counted from 0 (the coarsest): 4-9; repeatable, a block each.",
)
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="MODEL",
    help="In place of --model: the same latents at every stage of a run, or at the models of a chain; "
    "repeatable.",
)
@click.option("--nearest", metavar="DATA", help="Each image beside the nearest ones of a data set.")
@click.option("--split", default="train", show_default=True, help="Part of the data of --nearest.")
@click.option(
    "--compare",
    type=int,
    default=5000,
    show_default=True,
    metavar="N",
    help="Images of --nearest that are looked at, spread evenly over the data.",
)
@click.option("--out", default="grid.png", show_default=True, metavar="FILE", help="The sheet, a PNG.")
@overwrite_option
@runtime_options
def grid(
    prompts: tuple[str, ...],
    classes: tuple[str, ...],
    prompt_file: str | None,
    model: str | None,
    seeds: str,
    latents: tuple[str, ...],
    psi: str,
    truncation: Any,
    cutoff: int | None,
    mixes: tuple[str, ...],
    mix_seeds: str | None,
    layers: tuple[str, ...],
    stages: tuple[str, ...],
    nearest: str | None,
    split: str,
    compare: int,
    out: str,
    overwrite: bool,
    runtime: RuntimeOptions,
    as_json: bool,
) -> None:
    """Draws one labelled sheet of PROMPTS, classes (--class) or rows of --latents.

    By itself a row per prompt or class and a column per seed and psi, as `sgxl-t sample --grid`. With --mix
    or --mix-seeds a style-mixing table, with --stage a column per stage, with --nearest images of a data set.
    """
    from sgxl_t.sampling.asked_numbers import parse_layers, parse_psis, parse_seeds
    from sgxl_t.sampling.output.image_files import check_file, names_image
    from sgxl_t.sampling.prompt_file import read_lines
    from sgxl_t.sampling.sample_spec import SampleSettings

    table = Table(
        mixes, None if mix_seeds is None else parse_seeds(mix_seeds), [parse_layers(one) for one in layers]
    )
    _check_choice(table, stages, nearest, model, latents)
    if not names_image(check_file(out)):
        raise ValueError(f"--out {out} does not end in .png: name the sheet {Path(out).stem or 'grid'}.png")
    lines = [] if prompt_file is None else read_lines(prompt_file)
    check_seeds_used(latents, seeds, prompts, classes, lines)
    asked = Asked(prompts, classes, lines, latents, parse_seeds(seeds), parse_psis(psi))
    settings = SampleSettings(truncation, cutoff, batch_size=runtime.batch_size)
    sheets = Sheets(asked, settings, runtime, None if overwrite else out)
    if stages:
        drawn, found = sheets.stages(stages), None
    elif nearest is not None:
        drawn, found = sheets.nearest(model, nearest, split, compare)
    elif table.wanted:
        drawn, found = sheets.mixing(model, table), None
    else:
        drawn, found = sheets.plain(model), None
    from sgxl_t.sampling.output.image_files import save_png

    save_png(drawn, out, sheets.recipe)
    if as_json:
        say_json({"sheet": out, **({} if found is None else {"nearest": found})})
    else:
        say(f"wrote {out}")


@dataclass(frozen=True)
class Table:
    """What a style-mixing table was asked for: prompts or classes and seeds of columns, groups of layers."""

    mixes: Sequence[str]
    seeds: Sequence[int] | None
    groups: Sequence[Sequence[int]]

    @property
    def wanted(self) -> bool:
        """Whether there are columns."""
        return bool(self.mixes) or self.seeds is not None


@dataclass(frozen=True)
class Asked:
    """What the images of a sheet show."""

    prompts: Sequence[str]
    classes: Sequence[str]
    lines: Sequence[PromptLine]
    latents: Sequence[str]
    seeds: Sequence[int]
    psis: Sequence[float]

    def rows(self, pipe: Pipeline) -> list[GridRow]:
        """Rows as `sgxl-t sample --grid` has them."""
        from sgxl_t.sampling.sheets.grid_rows import plan_rows

        rows = latent_rows(pipe, self.latents, self.psis)
        if self.latents and not (self.prompts or self.classes or self.lines):
            return rows
        entries = resolve_entries(pipe, self.prompts, self.classes, self.lines)
        asked, label = list(dict.fromkeys(entries)), grid_label(pipe)
        planned = plan_rows(asked, self.seeds, self.psis, name=pipe.condition.label, label=label)
        return [*planned, *rows]

    def specs(self, pipe: Pipeline) -> list[Drawable]:
        """The images of the rows, one after the other."""
        return [spec for row in self.rows(pipe) for spec in row.specs]


class Sheets:
    """Makes the sheets of one request. recipe: what the last one was made from, known before it is drawn."""

    def __init__(
        self, asked: Asked, settings: SampleSettings, runtime: RuntimeOptions, kept: str | None
    ) -> None:
        """kept: the file that is not replaced by another sheet; None replaces whatever is there."""
        self.asked, self.settings, self.runtime, self.kept = asked, settings, runtime, kept
        self.recipe: Recipe = {}

    def plain(self, model: str | None) -> Image.Image:
        """A row per prompt or class, a column per seed and psi."""
        from sgxl_t.sampling.output.grid import labelled_grid
        from sgxl_t.sampling.output.image_writer import layout
        from sgxl_t.sampling.sheets.grid_rows import grid_lines

        pipe = self.runtime.open(model, self.asked.classes)
        rows = self.asked.rows(pipe)
        lines = grid_lines(rows)
        self._settle(pipe, [spec for row in rows for spec in row.specs], "grid")
        images = iter(self._images(pipe, [spec for line in lines for spec in line.specs]))
        width = max(len(line.specs) for line in lines)
        cells = [
            next(images) if place < len(line.specs) else None for line in lines for place in range(width)
        ]
        return labelled_grid(cells, *layout(rows, lines))

    def mixing(self, model: str | None, table: Table) -> Image.Image:
        """Rows take layers from columns."""
        from sgxl_t.sampling.latents import latent_specs
        from sgxl_t.sampling.sheets.mixing import MixingTable

        pipe = self.runtime.open(model, self.asked.classes)
        last = pipe.generator.num_ws - 1
        wrong = [layer for group in table.groups for layer in group if layer > last]
        if wrong:
            raise ValueError(f"layer {wrong[0]} does not exist: the model has 0 to {last}")
        specs, columns = self.asked.specs(pipe), self._columns(pipe, table)
        note_reading(pipe, [*specs, *columns])
        rows = pipe.latents_of(specs, self.settings)
        made = MixingTable(rows, pipe.latents_of(columns, self.settings), table.groups)
        self._settle(pipe, [*specs, *columns], "mixing", list(map(list, table.groups)), len(columns))
        return made.sheet(self._images(pipe, latent_specs(made.latents()))).drawn()

    def stages(self, models: Sequence[str]) -> Image.Image:
        """The same latents at every stage."""
        from sgxl_t.sampling.sheets.stages import chain_of, check_chain, stage_sheet

        folders = chain_of(models)
        pipes = [self.runtime.open(str(folder)) for folder in folders]
        check_chain([pipe.generator for pipe in pipes], folders)
        specs = [self.asked.specs(pipe) for pipe in pipes]
        self._settle(pipes[0], specs[0], "stages", [pipe.model_hash for pipe in pipes])
        images = [self._images(pipe, part) for pipe, part in zip(pipes, specs, strict=True)]
        labels = [_label(pipes[0], spec) for spec in specs[0]]
        return stage_sheet(images, labels, [pipe.generator for pipe in pipes]).drawn()

    def nearest(
        self, model: str | None, data: str, split: str, most: int
    ) -> tuple[Image.Image, dict[str, Any]]:
        """Each image beside the nearest ones of a data set, and distances as JSON values."""
        from sgxl_t.sampling.sheets.nearest import NearestSearch

        pipe = self.runtime.open(model, self.asked.classes)
        specs = self.asked.specs(pipe)
        self._settle(pipe, specs, "nearest", data, split, most)
        search = NearestSearch.of(data, pipe.generator.img_resolution, split=split, most=most)
        labels = [_label(pipe, spec) for spec in specs]
        sheet, rows = search.sheet(self._images(pipe, specs), labels)
        return sheet.drawn(), {"compared": len(search.places), "usual": search.usual, "rows": rows}

    def _columns(self, pipe: Pipeline, table: Table) -> list[Drawable]:
        """Every prompt or class of the columns, or without any that of the first row, with every seed."""
        from sgxl_t.sampling.sample_spec import SampleSpec

        resolved = [one for word in table.mixes for one in pipe.condition.resolve([word])]
        if not resolved:
            first = self.asked.specs(pipe)[0]
            resolved = [first.condition]
        seeds = self.asked.seeds[:1] if table.seeds is None else table.seeds
        return [SampleSpec(one, seed, self.asked.psis[0]) for one in resolved for seed in seeds]

    def _settle(self, pipe: Pipeline, specs: Sequence[AnySpec], *layout: Any) -> None:
        """Sets the recipe; ValueError where the file holds another sheet."""
        from sgxl_t.sampling.output.recipe import Recipes, refuse_overwriting

        recipes = Recipes.for_pipeline(pipe, self.settings.truncation, self.settings.cutoff)
        self.recipe = recipes.of_many(specs, sheet=list(layout))
        if self.kept is not None:
            refuse_overwriting([(Path(self.kept), [self.recipe])])

    def _images(self, pipe: Pipeline, specs: Sequence[AnySpec]) -> list[Image.Image]:
        """The images of specs, with a bar where they take more than two seconds."""
        from tqdm import tqdm

        self.runtime.speed_up(pipe, len(specs))
        made: Iterable[Any] = pipe.sample(specs, self.settings)
        with tqdm(made, total=len(specs), unit="image", delay=2, leave=False, disable=None) as bar:
            return [one.image for one in bar]


def _label(pipe: Pipeline, spec: Drawable) -> str:
    psi = "" if spec.psi == 1 else f", psi {spec.psi:g}"
    return spec.label(pipe.condition) + ("" if spec.seed is None else f", seed {spec.seed}{psi}")


def _check_choice(
    table: Table, stages: Sequence[str], nearest: str | None, model: str | None, latents: Sequence[str]
) -> None:
    """ValueError for several kinds of sheet at once, and for options that mean nothing alone."""
    kinds = ["--mix"] * table.wanted + ["--stage"] * bool(stages) + ["--nearest"] * (nearest is not None)
    if len(kinds) > 1:
        raise ValueError(f"{' and '.join(kinds)} are different sheets: ask for one at a time")
    if table.wanted != bool(table.groups):
        raise ValueError("a style-mixing table takes columns (--mix or --mix-seeds) and --layers: give both")
    if stages and (model is not None or latents):
        raise ValueError(
            "--stage names the models itself and draws seeds at each of them: leave --model and --latents out"
        )
