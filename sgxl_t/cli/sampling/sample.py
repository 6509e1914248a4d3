"""`sgxl-t sample`: images from prompts or classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from sgxl_t.cli.sampling.latents_request import (
    LatentsFile,
    check_seeds_used,
    latent_rows,
    latents_option,
)
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
    from sgxl_t.sampling.image import GeneratedImage
    from sgxl_t.sampling.output.image_writer import ImageWriter, Written
    from sgxl_t.sampling.output.recipe import Recipes
    from sgxl_t.sampling.pipeline import Pipeline
    from sgxl_t.sampling.sample_spec import AnySpec, SampleSettings
    from sgxl_t.sampling.sheets.grid_rows import GridRow

EXAMPLES = """\b
Examples:
  sgxl-t sample "a red fox in snow"
  sgxl-t sample "a red fox in snow" --model demo/text --seeds 0-7 --grid fox.png
  sgxl-t sample "a red fox in snow" --psi 0.3,0.5,1 --grid psi.png
  sgxl-t sample "a red fox in snow" --mix "a blue car at night" --layers 8-15
  sgxl-t sample "a red fox in snow" --best-of 8 --clip local:RUN/features/clip
  sgxl-t sample "a red fox in snow" --seeds 0-7 --save-latents foxes.safetensors
  sgxl-t sample --latents foxes.safetensors:0,3-5 --psi 0.7
  sgxl-t sample --model demo/class --class 0-9 --psi 0.7 --out digits
  sgxl-t sample --model imagenet256 --class "golden retriever" --class 0-31 --sheet dogs.png"""


@click.command(epilog=EXAMPLES)
@subject_options
@latents_option
@click.option(
    "--psi",
    default="1",
    show_default=True,
    metavar="LIST",
    help="Truncation: 1 keeps full variety, 0 gives the average image; a list such as 0.3,0.5,1 makes each.",
)
@truncation_options
@click.option(
    "--mix", metavar="PROMPT", help="A second prompt or class whose styles take over the layers of --layers."
)
@click.option(
    "--layers", metavar="LIST", help="Layers of --mix, counted from 0 (the coarsest): 4-9 or 0,2,5-7."
)
@click.option(
    "--best-of",
    type=int,
    default=1,
    metavar="K",
    help="Make K images for each one asked for (for seed s the seeds s*K to s*K+K-1) and keep the one that "
    "CLIP finds closest to the prompt.",
)
@click.option(
    "--clip",
    metavar="REF",
    help="CLIP of --best-of: open_clip:MODEL/TAG or local:FOLDER [default: the model's own].",
)
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for one PNG per image, or the .png of a single one [default: samples, unless --grid or "
    "--sheet is given].",
)
@click.option(
    "--grid",
    metavar="FILE",
    help="One PNG with a row per prompt or class and a column per seed and psi; long rows wrap.",
)
@click.option(
    "--sheet",
    metavar="FILE",
    help="Like --grid, on as many pages as it needs (FILE-1.png, ...); without --class, all classes.",
)
@click.option(
    "--sheet-rows", type=int, default=32, show_default=True, metavar="N", help="Lines on a page of --sheet."
)
@click.option(
    "--save-latents",
    metavar="FILE",
    help="Write what the images are drawn from, a .safetensors for --latents.",
)
@overwrite_option
@runtime_options
def sample(
    prompts: tuple[str, ...],
    classes: tuple[str, ...],
    prompt_file: str | None,
    model: str | None,
    seeds: str,
    latents: tuple[str, ...],
    psi: str,
    truncation: Any,
    cutoff: int | None,
    mix: str | None,
    layers: str | None,
    best_of: int,
    clip: str | None,
    out: str | None,
    grid: str | None,
    sheet: str | None,
    sheet_rows: int,
    save_latents: str | None,
    overwrite: bool,
    runtime: RuntimeOptions,
    as_json: bool,
) -> None:
    """Generates images from PROMPTS, from the classes named with --class, or from --latents.

    One image per prompt or class, seed and psi, each in its own file, named by all that changes it. An
    existing file is replaced only by the same image, unless --overwrite is given.
    """
    # Everything that can be wrong without the model is checked before the slow imports and the loading.
    from sgxl_t.sampling.asked_numbers import parse_psis, parse_seeds
    from sgxl_t.sampling.output.image_writer import ImageWriter
    from sgxl_t.sampling.prompt_file import read_lines
    from sgxl_t.sampling.sample_spec import SampleSettings
    from sgxl_t.sampling.sheets.grid_rows import plan_rows

    numbers, psis = parse_seeds(seeds), parse_psis(psi)
    lines = [] if prompt_file is None else read_lines(prompt_file)
    check_seeds_used(latents, seeds, prompts, classes, lines)
    settings = SampleSettings(truncation, cutoff, best_of, clip, runtime.batch_size)
    _check_pairs(mix, layers, settings, latents)
    writer = ImageWriter(out or ("samples" if not (grid or sheet) else None), grid, sheet, sheet_rows)
    writer.check()
    saved = LatentsFile(save_latents)
    saved.check()

    from sgxl_t.sampling.output.recipe import Recipes

    pipe = runtime.open(model, classes)
    rows = latent_rows(pipe, latents, psis)
    if prompts or classes or lines or not latents:
        entries = resolve_entries(pipe, prompts, classes, lines, all_classes=sheet is not None)
        names = {"name": pipe.condition.label, "label": grid_label(pipe)}
        asked, mixed = list(dict.fromkeys(entries)), pipe.mixed(mix, layers)
        rows = [*plan_rows(asked, numbers, psis, mix=mixed, best_of=best_of, **names), *rows]
    recipes = Recipes.for_pipeline(pipe, truncation, cutoff)
    if not overwrite:
        writer.check_existing(rows, recipes, best_of)
        saved.check_existing(pipe, [spec for row in rows for spec in row.specs], settings)
    _report(_draw(pipe, rows, recipes, settings, runtime, writer, saved), as_json)


def _draw(
    pipe: Pipeline,
    rows: Sequence[GridRow],
    recipes: Recipes,
    settings: SampleSettings,
    runtime: RuntimeOptions,
    writer: ImageWriter,
    saved: LatentsFile,
) -> Written:
    """Makes and writes the images of the rows, and their latents."""
    from tqdm import tqdm

    from sgxl_t.sampling.sample_spec import of_chosen

    specs = [spec for row in rows for spec in row.specs]
    note_reading(pipe, specs)
    runtime.speed_up(pipe, len(specs) * settings.best_of)
    chosen: list[AnySpec] = []

    def noted(images: Iterable[GeneratedImage]) -> Iterator[GeneratedImage]:
        for spec, image in zip(specs, images, strict=True):
            chosen.append(of_chosen(spec, image))
            yield image

    images = noted(pipe.sample(specs, settings))
    resolution = pipe.generator.img_resolution
    # The bar waits two seconds, so quick requests print one line only, and stays away from files and pipes.
    with tqdm(images, total=len(specs), unit="image", delay=2, leave=False, disable=None) as bar:
        written = writer.write(bar, rows, recipes, resolution=resolution, best_of=settings.best_of)
    written.latents = saved.write(pipe, chosen, settings)
    return written


def _check_pairs(
    mix: str | None, layers: str | None, settings: SampleSettings, latents: Sequence[str]
) -> None:
    """Raises ValueError for options that mean nothing alone, or together."""
    from sgxl_t.sampling.asked_numbers import parse_layers

    if latents and (mix is not None or settings.best_of > 1):
        raise ValueError(
            "--latents are drawn as they are, and --mix and --best-of start from seeds: leave one of both out"
        )
    if layers is not None:
        parse_layers(layers)
    if (mix is None) != (layers is None):
        raise ValueError(
            '--mix and --layers go together: write both, such as --mix "a blue car" --layers 4-9'
        )
    if settings.best_of == 1 and settings.clip is not None:
        raise ValueError(
            f"--clip {settings.clip} has nothing to choose from: add --best-of, such as --best-of 8"
        )


def _report(written: Written, as_json: bool) -> None:
    if as_json:
        say_json({name: value for name, value in vars(written).items() if (name, value) != ("latents", None)})
        return
    if written.pictures:
        last = "" if len(written.pictures) == 1 else f" and {len(written.pictures) - 1} more"
        say(f"wrote {written.pictures[0]['file']}{last}")
    if written.grid is not None:
        say(f"wrote {written.grid}")
    if written.sheet:
        last = "" if len(written.sheet) == 1 else f" to {written.sheet[-1]}"
        say(f"wrote {written.sheet[0]}{last}")
    if written.latents is not None:
        say(f"wrote {written.latents}")
