"""`sgxl-t interpolate`: pictures on the way from one prompt or class to the next."""

from __future__ import annotations

from typing import Any

import click

from sgxl_t.cli.sampling.sample_request import (
    MachineRequest,
    asked_of,
    machine_options,
    note_reading,
    overwrite_option,
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
    help="Truncation: 1 most varied, 0 the average picture.",
)
@truncation_options
@click.option(
    "--frames", type=int, default=7, show_default=True, metavar="N", help="Pictures between two neighbours."
)
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for numbered PNGs [default: frames, unless --strip or --animation is given].",
)
@click.option("--strip", metavar="FILE", help="One PNG with a row per seed and a column per picture.")
@click.option(
    "--animation", metavar="FILE", help="Animated .png, .gif or .webp, with the seeds side by side."
)
@click.option("--fps", type=float, default=12.0, show_default=True, help="Pictures per second.")
@overwrite_option
@machine_options
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
    machine: MachineRequest,
    as_json: bool,
) -> None:
    """Makes pictures on the way through PROMPTS, or through the classes named with --class, in their order.

    Text features turn on the sphere; between classes the styles move on a straight line. The latent stays,
    unless lines of --prompts name seeds of their own. A file that is there is replaced by the same picture
    only, else with --overwrite.
    """
    from sgxl_t.sampling.output.interpolation_writer import Reel
    from sgxl_t.sampling.requests import check_psi, parse_seeds, read_lines

    numbers = parse_seeds(seeds)
    check_psi(psi)
    lines = [] if prompt_file is None else read_lines(prompt_file)
    reel = Reel(out or ("frames" if not (strip or animation) else None), strip, animation, fps)
    reel.check()

    from tqdm import tqdm

    from sgxl_t.sampling.output.recipe import Drawing
    from sgxl_t.sampling.sample_spec import plan_steps

    pipe = machine.open(model)
    asked = asked_of(pipe, prompts, classes, lines)
    tracks = {seed: plan_steps([one.shot(seed, psi) for one in asked], frames) for seed in numbers}
    steps = [step for track in tracks.values() for step in track]
    note_reading(pipe, [one.shot(seed, psi) for seed in numbers for one in asked])
    drawing = Drawing.of(pipe, truncation, cutoff)
    if not overwrite:
        reel.check_others(tracks, drawing)
    machine.speed_up(pipe, len(steps))
    pictures = pipe.shoot(steps, cutoff=cutoff, truncation=truncation, batch_size=machine.batch_size)
    with tqdm(pictures, total=len(steps), unit="picture", delay=2, leave=False, disable=None) as bar:
        written = reel.write(bar, tracks, drawing, side=pipe.generator.img_resolution)
    if as_json:
        facts = {"pictures": written, "strip": strip, "animation": animation}
        say_json(facts)
        return
    if written:
        say(f"wrote {written[0]['file']} and {len(written) - 1} more")
    for file in (strip, animation):
        if file is not None:
            say(f"wrote {file}")
