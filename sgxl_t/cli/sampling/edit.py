"""`sgxl-t edit`: finds directions in w and moves images along them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sgxl_t.cli.sampling.direction_request import DirectionRequest, direction_options, keep_directions
from sgxl_t.cli.sampling.latents_request import (
    LatentsFile,
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
    from sgxl_t.sampling.directions.direction import Directions
    from sgxl_t.sampling.latents import Latents
    from sgxl_t.sampling.output.interpolation_writer import InterpolationWriter
    from sgxl_t.sampling.pipeline import Pipeline
    from sgxl_t.sampling.prompt_file import PromptLine
    from sgxl_t.sampling.sample_spec import AnySpec, Drawable

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
    Ctrl-C while --clip seeks a direction keeps the one so far and goes on with it.
    """
    from sgxl_t.sampling.asked_numbers import check_psi, parse_layers, parse_seeds
    from sgxl_t.sampling.directions.direction import parse_strengths
    from sgxl_t.sampling.prompt_file import read_lines
    from sgxl_t.sampling.sample_spec import SampleSettings

    asked.check()
    steps, moved = parse_strengths(strengths), None if layers is None else parse_layers(layers)
    lines = [] if prompt_file is None else read_lines(prompt_file)
    check_seeds_used(latents, seeds, prompts, classes, lines)
    named = bool(prompts or classes or lines or latents)
    if not (out or film or save_latents or (asked.save and not named)):
        out = "edit.png"
    places = Places(out, film, frames, fps, scale, save_latents, overwrite)
    places.check()
    subjects = Subjects(prompts, classes, lines, latents, parse_seeds(seeds), check_psi(psi))
    settings = SampleSettings(truncation, cutoff, batch_size=runtime.batch_size)

    pipe = runtime.open(model, classes)
    specs = subjects.specs(pipe) if places.any or named else []
    directions, stopped = asked.directions(pipe, specs, moved)
    if asked.save is not None:
        keep_directions(asked.save, directions, overwrite=overwrite)
    if places.any:
        note_reading(pipe, specs)
        places.write(pipe, pipe.latents_of(specs, settings), directions, (steps, moved), runtime)
    _report(
        directions, {"direction": asked.save, "latents": save_latents, "sheet": out, "film": film}, as_json
    )
    if stopped:
        raise KeyboardInterrupt


def _report(directions: Directions, files: dict[str, str | None], as_json: bool) -> None:
    if as_json:
        say_json({"directions": list(directions.names), "found": dict(directions.found), **files})
        return
    for file in files.values():
        if file is not None:
            say(f"wrote {file}")


@dataclass(frozen=True)
class Subjects:
    """What is edited."""

    prompts: Sequence[str]
    classes: Sequence[str]
    lines: Sequence[PromptLine]
    latents: Sequence[str]
    seeds: Sequence[int]
    psi: float

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


@dataclass(frozen=True)
class Places:
    """Where edited images go; None: not written. frames, fps and scale are those of the film."""

    sheet: str | None
    film: str | None
    frames: int
    fps: float
    scale: int
    latents: str | None
    overwrite: bool

    @property
    def any(self) -> bool:
        """Whether anything is drawn or kept."""
        return bool(self.sheet or self.film or self.latents)

    @property
    def _writer(self) -> InterpolationWriter:
        from sgxl_t.sampling.output.interpolation_writer import InterpolationWriter

        return InterpolationWriter(None, None, self.film, self.fps, None, self.scale)

    def check(self) -> None:
        """ValueError, before anything is opened, for places that cannot be written."""
        from sgxl_t.sampling.output.image_files import check_file, names_image

        self._writer.check()
        LatentsFile(self.latents).check()
        if self.sheet is not None and not names_image(check_file(self.sheet)):
            raise ValueError(f"--out {self.sheet} does not end in .png: name the sheet, such as edit.png")

    def write(
        self,
        pipe: Pipeline,
        rows: Latents,
        directions: Directions,
        moved: tuple[Sequence[float], Sequence[int] | None],
        runtime: RuntimeOptions,
    ) -> None:
        """Latents, sheet and film of rows that are moved. moved: strengths, and layers or None for all."""
        from sgxl_t.sampling.latents import latent_specs
        from sgxl_t.sampling.output.image_files import save_png
        from sgxl_t.sampling.output.recipe import Recipes, refuse_overwriting
        from sgxl_t.sampling.sheets.edits import EditTable

        table = EditTable(rows, directions, *moved)
        edited = table.latents(pipe.generator)
        recipes, specs = Recipes.for_pipeline(pipe, "class", None), latent_specs(edited)
        recipe = recipes.of_many(specs, sheet=["edit", len(table.strengths)])
        tracks = table.tracks(edited, self.frames) if self.film else []
        if not self.overwrite:
            refuse_overwriting([(Path(self.sheet), [recipe])] if self.sheet else [])
            if tracks:
                self._writer.check_existing(tracks, recipes)
        if self.latents is not None:
            keep_latents(self.latents, edited, overwrite=self.overwrite)
        if self.sheet is not None:
            images = [one.image for one in _shown(pipe, specs, runtime)]
            save_png(table.sheet(images).drawn(), self.sheet, recipe)
        if tracks:
            moments = zip(*(track.frames for track in tracks), strict=True)
            shown = _shown(pipe, [frame for moment in moments for frame in moment], runtime)
            self._writer.write(shown, tracks, recipes, resolution=pipe.generator.img_resolution)


def _shown(pipe: Pipeline, specs: Sequence[AnySpec], runtime: RuntimeOptions) -> Any:
    """The images of specs one by one, with a bar where they take more than two seconds."""
    from tqdm import tqdm

    from sgxl_t.sampling.sample_spec import SampleSettings

    runtime.speed_up(pipe, len(specs))
    images = pipe.sample(specs, SampleSettings(batch_size=runtime.batch_size))
    return tqdm(images, total=len(specs), unit="image", delay=2, leave=False, disable=None)
