"""`sgxl-t edit`: finds directions in w and moves images along them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from sgxl_t.cli.sampling.direction_request import DirectionRequest, direction_options, keep_directions
from sgxl_t.cli.sampling.latents_request import (
    check_seeds_used,
    keep_latents,
    latents_option,
    open_specs,
)
from sgxl_t.cli.sampling.sample_request import (
    RuntimeOptions,
    note_reading,
    overwrite_option,
    resolve_entries,
    runtime_options,
    subject_options,
    truncation_options,
)
from sgxl_t.files.terminal import say, say_json

if TYPE_CHECKING:
    from sgxl_t.sampling.latents import Latents
    from sgxl_t.sampling.pipeline import Pipeline
    from sgxl_t.sampling.prompt_file import PromptLine
    from sgxl_t.sampling.sample_spec import AnySpec, Drawable
    from sgxl_t.sampling.sheets.edits import EditTable

EXAMPLES = """\b
Examples:
  sgxl-t edit "a red fox in snow" --from "a fox in snow" --to "a fox at night" --strengths 0,0.5,1
  sgxl-t edit --edits data/prompts/edits.txt --pick "at night" --save-direction night.safetensors
  sgxl-t edit --direction night.safetensors --latents photos.safetensors --strengths -1,0,1 --film night.webp
  sgxl-t edit --model runs/photos --class fox --seeds 0-3 --pca 4 --strengths -2,0,2 --layers 0-4
  sgxl-t edit --model runs/photos --from plain.safetensors --to striped.safetensors --seeds 0-3
  sgxl-t edit --model imported/ --class 281 --from "a cat" --to "a cat with big eyes" --clip local:clip"""


@click.command(epilog=EXAMPLES)
@subject_options
@latents_option
@click.option(
    "--psi", type=float, default=1.0, show_default=True, help="Truncation, before images are moved."
)
@truncation_options
@direction_options
@click.option(
    "--strengths",
    default="-1,0,1",
    show_default=True,
    metavar="LIST",
    help="How far to go, a column each: 1 is the whole way between both ends, or a standard deviation of w.",
)
@click.option(
    "--layers", metavar="LIST", help="Layers that move, counted from 0 (the coarsest), such as 3-9."
)
@click.option(
    "--out",
    metavar="FILE",
    help="The sheet, a PNG [default: edit.png, unless a direction or film alone is written].",
)
@click.option("--film", metavar="FILE", help=".mp4, .webp, .gif or .png: through the strengths and back.")
@click.option(
    "--frames", type=int, default=7, show_default=True, metavar="N", help="Images between two strengths."
)
@click.option("--fps", type=float, default=12.0, show_default=True, help="Images per second.")
@click.option(
    "--scale", type=int, default=1, show_default=True, metavar="N", help="Enlarge each pixel of the film."
)
@click.option("--save-latents", metavar="FILE", help="Keep what the sheet is drawn from, a row per image.")
@overwrite_option
@runtime_options
def edit(
    prompts: tuple[str, ...],
    classes: tuple[str, ...],
    prompt_file: str | None,
    model: str | None,
    seeds: str,
    latents: tuple[str, ...],
    psi: float,
    truncation: Any,
    cutoff: int | None,
    asked: DirectionRequest,
    strengths: str,
    layers: str | None,
    out: str | None,
    film: str | None,
    frames: int,
    fps: float,
    scale: int,
    save_latents: str | None,
    overwrite: bool,
    runtime: RuntimeOptions,
    as_json: bool,
) -> None:
    """Moves images of PROMPTS, classes (--class) or rows of --latents along directions of w.

    A direction comes from a file (--direction), from two prompts, classes or files of latents (--from and
    --to, or lines of --edits), or from w itself (--pca, --closed-form). The sheet has a line per image and
    direction and a column per strength. With --save-direction alone the direction is found and nothing drawn.
    """
    from sgxl_t.sampling.directions.direction import parse_strengths
    from sgxl_t.sampling.output.image_files import check_file, names_image
    from sgxl_t.sampling.output.interpolation_writer import InterpolationWriter
    from sgxl_t.sampling.prompt_file import read_lines
    from sgxl_t.sampling.sample_spec import SampleSettings, check_psi, parse_layers, parse_seeds

    asked.check()
    steps, numbers = parse_strengths(strengths), parse_seeds(seeds)
    moved = None if layers is None else parse_layers(layers)
    lines = [] if prompt_file is None else read_lines(prompt_file)
    check_seeds_used(latents, seeds, prompts, classes, lines)
    settings = SampleSettings(truncation, cutoff, batch_size=runtime.batch_size)
    writer = InterpolationWriter(None, None, film, fps, None, scale)
    writer.check()
    named = bool(prompts or classes or lines or latents)
    drawn = out or (None if film or save_latents or (asked.save and not named) else "edit.png")
    if drawn is not None and not names_image(check_file(drawn)):
        raise ValueError(f"--out {drawn} does not end in .png: name the sheet, such as edit.png")

    pipe = runtime.open(model)
    subjects = Subjects(prompts, classes, lines, latents, numbers, check_psi(psi))
    wanted = bool(drawn or film or save_latents)
    specs = subjects.specs(pipe) if wanted or named else []
    directions = asked.directions(pipe, specs, moved)
    if asked.save is not None:
        keep_directions(asked.save, directions, overwrite=overwrite)
    found: dict[str, Any] = {
        "directions": list(directions.names),
        "found": dict(directions.found),
        "direction": asked.save,
        "sheet": drawn,
        "film": film,
        "latents": save_latents,
    }
    if wanted:
        from sgxl_t.sampling.sheets.edits import EditTable

        note_reading(pipe, specs)
        table = EditTable(pipe.latents_of(specs, settings), directions, steps, moved)
        edited = table.latents(pipe.generator)
        if save_latents is not None:
            keep_latents(save_latents, edited, overwrite=overwrite)
        _draw(pipe, table, edited, runtime, (drawn, None if film is None else writer, frames, overwrite))
    if as_json:
        say_json(found)
    else:
        for file in (asked.save, save_latents, drawn, film):
            if file is not None:
                say(f"wrote {file}")


class Subjects:
    """What is edited."""

    def __init__(
        self,
        prompts: Sequence[str],
        classes: Sequence[str],
        lines: Sequence[PromptLine],
        latents: Sequence[str],
        seeds: Sequence[int],
        psi: float,
    ) -> None:
        self.prompts, self.classes, self.lines = prompts, classes, lines
        self.latents, self.seeds, self.psi = latents, seeds, psi

    def specs(self, pipe: Pipeline) -> list[Drawable]:
        """Every prompt or class with every seed, then the rows of latents."""
        found: list[Drawable] = []
        if self.prompts or self.classes or self.lines or not self.latents:
            for entry in resolve_entries(pipe, self.prompts, self.classes, self.lines):
                seeds = self.seeds if entry.seed is None else [entry.seed]
                found += [entry.spec(seed, self.psi) for seed in seeds]
        for reference in self.latents:
            found += open_specs(pipe, reference, [self.psi])
        return found


def _draw(
    pipe: Pipeline,
    table: EditTable,
    edited: Latents,
    runtime: RuntimeOptions,
    places: tuple[str | None, Any, int, bool],
) -> None:
    """Writes sheet and film. places: file of the sheet, writer of the film, frames between, overwrite."""
    from pathlib import Path

    from sgxl_t.sampling.latents import latent_specs
    from sgxl_t.sampling.output.image_files import save_png
    from sgxl_t.sampling.output.recipe import Recipes, refuse_overwriting

    sheet, writer, frames, overwrite = places
    recipes = Recipes.for_pipeline(pipe, "class", None)
    specs = latent_specs(edited)
    recipe = recipes.of_many(specs, sheet=["edit", len(table.strengths)])
    tracks = [] if writer is None else table.tracks(edited, frames)
    if not overwrite:
        if sheet is not None:
            refuse_overwriting([(Path(sheet), [recipe])])
        if writer is not None:
            writer.check_existing(tracks, recipes)
    if sheet is not None:
        images = [one.image for one in _shown(pipe, specs, runtime)]
        save_png(table.sheet(images).drawn(), sheet, recipe)
    if writer is not None:
        moments = zip(*(track.frames for track in tracks), strict=True)
        images = _shown(pipe, [frame for moment in moments for frame in moment], runtime)
        writer.write(images, tracks, recipes, resolution=pipe.generator.img_resolution)


def _shown(pipe: Pipeline, specs: Sequence[AnySpec], runtime: RuntimeOptions) -> Any:
    """The images of specs one by one, with a bar where they take more than two seconds."""
    from tqdm import tqdm

    from sgxl_t.sampling.sample_spec import SampleSettings

    runtime.speed_up(pipe, len(specs))
    images = pipe.sample(specs, SampleSettings(batch_size=runtime.batch_size))
    return tqdm(images, total=len(specs), unit="image", delay=2, leave=False, disable=None)
