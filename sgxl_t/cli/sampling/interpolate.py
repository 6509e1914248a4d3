"""`sgxl-t interpolate`: images on the way from one key to the next, and pictures that move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from sgxl_t.cli.sampling.latents_request import check_seeds_used, latents_option
from sgxl_t.cli.sampling.sample_request import (
    RuntimeOptions,
    note_reading,
    overwrite_option,
    runtime_options,
    subject_options,
    truncation_options,
)
from sgxl_t.cli.sampling.walk_request import WalkRequest, read_subjects
from sgxl_t.files.terminal import say, say_json

if TYPE_CHECKING:
    from sgxl_t.sampling.output.interpolation_writer import InterpolationWriter, Track
    from sgxl_t.sampling.output.recipe import Recipes
    from sgxl_t.sampling.pipeline import Pipeline
    from sgxl_t.sampling.sample_spec import SampleSettings
    from sgxl_t.sampling.walks.plan import WalkSettings

EXAMPLES = """\b
Examples:
  sgxl-t interpolate "a red fox in snow" "a red fox on a beach" --strip way.png
  sgxl-t interpolate "a fox" "a dog" --frames 23 --curve smooth --loop --animation turn.mp4 --fps 24
  sgxl-t interpolate --model demo/class --class 3 --class 8 --seeds 0-3 --strip digits.png
  sgxl-t interpolate --model runs/photos --seeds 0-15 --walks 4 --loop --curve smooth --animation walks.mp4
  sgxl-t interpolate --latents photos.safetensors --model runs/photos --strip photos.png
  sgxl-t interpolate "a red fox" --move translate --frames 47 --animation moved.webp"""


@click.command(epilog=EXAMPLES)
@subject_options
@latents_option
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
    "--space",
    type=click.Choice(["z", "w", "text"]),
    help="What moves: latent and features of the text (z), styles (w), the text alone (text) [default: z for "
    "prompts, w for classes, models without condition and latents].",
)
@click.option(
    "--curve",
    type=click.Choice(["straight", "sphere", "smooth"]),
    help="Straight lines, turns on the sphere, or one smooth curve through all keys [default: sphere in z, "
    "straight in w].",
)
@click.option("--loop", is_flag=True, help="Go on from the last key to the first, whose image ends the way.")
@click.option(
    "--walks", type=int, metavar="N", help="Deal the keys out, in order, to N walks that are shown together."
)
@click.option(
    "--move",
    type=click.Choice(["translate", "rotate"]),
    help="No walk: move each picture once round a circle, or turn it once, by the generator's input.",
)
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for numbered PNGs [default: frames, unless --strip or --animation is given].",
)
@click.option("--strip", metavar="FILE", help="One PNG with a row per walk and a column per image.")
@click.option(
    "--animation", metavar="FILE", help=".mp4, .webp, .gif or animated .png, with the walks side by side."
)
@click.option("--fps", type=float, default=12.0, show_default=True, help="Images per second.")
@click.option(
    "--columns",
    type=int,
    metavar="N",
    help="Walks in a row of the film [default: up to 8, or a square].",
)
@click.option(
    "--scale", type=int, default=1, show_default=True, metavar="N", help="Enlarge each pixel of the film."
)
@overwrite_option
@runtime_options
def interpolate(
    prompts: tuple[str, ...],
    classes: tuple[str, ...],
    prompt_file: str | None,
    model: str | None,
    seeds: str,
    latents: tuple[str, ...],
    psi: float,
    truncation: Any,
    cutoff: int | None,
    frames: int,
    space: Any,
    curve: Any,
    loop: bool,
    walks: int | None,
    move: str | None,
    out: str | None,
    strip: str | None,
    animation: str | None,
    fps: float,
    columns: int | None,
    scale: int,
    overwrite: bool,
    runtime: RuntimeOptions,
    as_json: bool,
) -> None:
    """Generates images on the way between PROMPTS, classes (--class) or rows of --latents, in their order.

    Each seed gives a walk of its own; with a single prompt or class, or none, the seeds are what is walked
    between. Lines of --prompts may name their own seeds. An existing file is replaced only by the same image,
    unless --overwrite is given.
    """
    from sgxl_t.sampling.asked_numbers import check_psi, parse_seeds
    from sgxl_t.sampling.output.interpolation_writer import InterpolationWriter
    from sgxl_t.sampling.prompt_file import read_lines
    from sgxl_t.sampling.sample_spec import SampleSettings
    from sgxl_t.sampling.walks.plan import WalkSettings

    numbers, psi = parse_seeds(seeds), check_psi(psi)
    walk = WalkSettings(frames, space, curve, loop)
    _check_move(move, walk, walks)
    lines = [] if prompt_file is None else read_lines(prompt_file)
    check_seeds_used(latents, seeds, prompts, classes, lines)
    settings = SampleSettings(truncation, cutoff, batch_size=runtime.batch_size)
    out = out or ("frames" if not (strip or animation) else None)
    writer = InterpolationWriter(out, strip, animation, fps, columns, scale)
    writer.check()

    from sgxl_t.sampling.output.recipe import Recipes

    pipe = runtime.open(model, classes)
    request = WalkRequest(read_subjects(pipe, prompts, classes, lines, latents, psi), numbers, psi)
    tracks = request.tracks(pipe, walk, walks, move)
    recipes = Recipes.for_pipeline(pipe, truncation, cutoff)
    if not overwrite:
        writer.check_existing(tracks, recipes)
    written = _draw(pipe, tracks, recipes, settings, runtime, writer)
    _report(written, strip, animation, as_json)


def _check_move(move: str | None, walk: WalkSettings, walks: int | None) -> None:
    """ValueError for options of walks beside a move."""
    if move is not None and (walk.space or walk.curve or walk.loop or walks is not None):
        raise ValueError("--move shows no walk: leave --space, --curve, --loop and --walks out")


def _draw(
    pipe: Pipeline,
    tracks: Sequence[Track],
    recipes: Recipes,
    settings: SampleSettings,
    runtime: RuntimeOptions,
    writer: InterpolationWriter,
) -> list[dict[str, Any]]:
    """Makes and writes the images of the tracks, moment by moment."""
    from tqdm import tqdm

    moments = zip(*(track.frames for track in tracks), strict=True)
    frames = [frame for moment in moments for frame in moment]
    note_reading(pipe, frames)
    runtime.speed_up(pipe, len(frames))
    images = pipe.sample(frames, settings)
    with tqdm(images, total=len(frames), unit="image", delay=2, leave=False, disable=None) as bar:
        return writer.write(bar, tracks, recipes, resolution=pipe.generator.img_resolution)


def _report(written: list[dict[str, Any]], strip: str | None, animation: str | None, as_json: bool) -> None:
    if as_json:
        say_json({"pictures": written, "strip": strip, "animation": animation})
        return
    if written:
        say(f"wrote {written[0]['file']} and {len(written) - 1} more")
    for file in (strip, animation):
        if file is not None:
            say(f"wrote {file}")
