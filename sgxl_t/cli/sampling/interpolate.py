"""`sgxl-t interpolate`: images on the way from one prompt or class to the next."""

from __future__ import annotations

from typing import Any

import click

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

EXAMPLES = """\b
Examples:
  sgxl-t interpolate "a red fox in snow" "a red fox on a beach" --strip way.png
  sgxl-t interpolate "a fox" "a dog" "a fox" --frames 23 --animation turn.webp --fps 24
  sgxl-t interpolate --model demo/class --class 3 --class 8 --seeds 0-3 --strip digits.png"""


@click.command(epilog=EXAMPLES)
@subject_options
@click.option(
    "--psi",
    type=float,
    default=1.0,
    show_default=True,
    help="Truncation: 1 keeps full variety, 0 gives the average image.",
)
@truncation_options
@click.option(
    "--frames", type=int, default=7, show_default=True, metavar="N", help="Images between two neighbours."
)
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for numbered PNGs [default: frames, unless --strip or --animation is given].",
)
@click.option("--strip", metavar="FILE", help="One PNG with a row per seed and a column per image.")
@click.option(
    "--animation", metavar="FILE", help="Animated .png, .gif or .webp, with the seeds side by side."
)
@click.option("--fps", type=float, default=12.0, show_default=True, help="Images per second.")
@overwrite_option
@runtime_options
def interpolate(
    prompts: tuple[str, ...],
    classes: tuple[str, ...],
    prompt_file: str | None,
    model: str | None,
    seeds: str,
    psi: float,
    truncation: Any,
    cutoff: int | None,
    frames: int,
    out: str | None,
    strip: str | None,
    animation: str | None,
    fps: float,
    overwrite: bool,
    runtime: RuntimeOptions,
    as_json: bool,
) -> None:
    """Generates images between PROMPTS, or between the classes named with --class, in their order.

    Text features are interpolated on the sphere, styles of classes linearly. The latent stays the same,
    unless lines of --prompts name their own seeds. An existing file is replaced only by the same image,
    unless --overwrite is given.
    """
    from sgxl_t.sampling.output.interpolation_writer import InterpolationWriter
    from sgxl_t.sampling.prompt_file import read_lines
    from sgxl_t.sampling.sample_spec import SampleSettings, check_psi, parse_seeds, plan_interpolation

    numbers = parse_seeds(seeds)
    check_psi(psi)
    lines = [] if prompt_file is None else read_lines(prompt_file)
    settings = SampleSettings(truncation, cutoff, batch_size=runtime.batch_size)
    out = out or ("frames" if not (strip or animation) else None)
    writer = InterpolationWriter(out, strip, animation, fps)
    writer.check()

    from tqdm import tqdm

    from sgxl_t.sampling.output.recipe import Recipes

    pipe = runtime.open(model)
    entries = resolve_entries(pipe, prompts, classes, lines)
    keys = {seed: [entry.spec(seed, psi) for entry in entries] for seed in numbers}
    tracks = {seed: plan_interpolation(specs, frames) for seed, specs in keys.items()}
    note_reading(pipe, [spec for specs in keys.values() for spec in specs])
    recipes = Recipes.for_pipeline(pipe, truncation, cutoff)
    if not overwrite:
        writer.check_existing(tracks, recipes)
    every = [frame for track in tracks.values() for frame in track]
    runtime.speed_up(pipe, len(every))
    images = pipe.sample(every, settings)
    with tqdm(images, total=len(every), unit="image", delay=2, leave=False, disable=None) as bar:
        written = writer.write(bar, tracks, recipes, resolution=pipe.generator.img_resolution)
    if as_json:
        say_json({"pictures": written, "strip": strip, "animation": animation})
    else:
        _report(written, strip, animation)


def _report(written: list[dict[str, Any]], *files: str | None) -> None:
    if written:
        say(f"wrote {written[0]['file']} and {len(written) - 1} more")
    for file in files:
        if file is not None:
            say(f"wrote {file}")
