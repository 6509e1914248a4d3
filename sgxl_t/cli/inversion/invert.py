"""`sgxl-t invert`: photographs to latents, and a generator tuned to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sgxl_t.cli.sampling.sample_request import demo_model
from sgxl_t.files.terminal import say, say_json

if TYPE_CHECKING:
    from sgxl_t.sampling.inversion.invert import Inversion
    from sgxl_t.sampling.inversion.optimise import Step
    from sgxl_t.sampling.pipeline import Pipeline

EXAMPLES = """\b
Examples:
  sgxl-t invert cat.jpg
  sgxl-t invert *.jpg --pti 350 --out inverted --video way.webp
  sgxl-t invert fox.png --prompt "a fox in snow" --space w --steps 300
  sgxl-t sample --latents inverted/latents.safetensors --tuned inverted/tuned.safetensors"""


@click.command(epilog=EXAMPLES)
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...")
@click.option(
    "--model",
    metavar="PATH",
    help="Model folder, run folder or Hub id [default: demo_text, or demo_class for --class].",
)
@click.option(
    "--steps",
    type=int,
    default=300,
    show_default=True,
    metavar="N",
    help="Steps of the latents; of w+, the first third in w. 0 writes the start.",
)
@click.option(
    "--space",
    type=click.Choice(["w", "w+"]),
    default="w+",
    show_default=True,
    help="w: one style for all layers, which edits best; w+: one per layer, which fits more closely.",
)
@click.option(
    "--pti",
    type=int,
    default=0,
    show_default=True,
    metavar="STEPS",
    help="Steps that tune the generator.",
)
@click.option(
    "--class", "classes", multiple=True, metavar="NAME", help="Class of all photographs, or of each in turn."
)
@click.option(
    "--prompt", "prompts", multiple=True, metavar="TEXT", help="What all photographs show, or each in turn."
)
@click.option("--classifier", metavar="REF", help="Network that finds the class: timm:NAME or local:FOLDER.")
@click.option("--clip", metavar="REF", help="CLIP that finds the caption [default: the model's own].")
@click.option(
    "--features",
    metavar="REF",
    help="Network of the feature loss: lpips, local:FOLDER, random:NAME, timm:NAME [default: lpips where its "
    "weights are, else random:small_cnn].",
)
@click.option("--feature-weight", type=float, default=0.1, show_default=True, help="Beside the pixels'.")
@click.option(
    "--candidates",
    type=int,
    default=512,
    show_default=True,
    metavar="N",
    help="Random w of which the nearest is the start, where the model has no encoder.",
)
@click.option("--encoder/--no-encoder", default=True, show_default=True, help="Use the model's encoder.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--batch-size", type=int, default=8, show_default=True, metavar="N", help="Photographs a pass.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps [default: cuda where there is one].")
@click.option("--out", default="inverted", show_default=True, metavar="DIR", help="Folder of the results.")
@click.option("--video", metavar="FILE", help="Film of the way: .webp, .gif, .png or .mp4.")
@click.option("--overwrite", is_flag=True, help="Begin anew where the folder holds another inversion.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def invert(
    photos: tuple[str, ...],
    model: str | None,
    classes: tuple[str, ...],
    prompts: tuple[str, ...],
    device: str | None,
    out: str,
    video: str | None,
    overwrite: bool,
    as_json: bool,
    **numbers: Any,
) -> None:
    """Finds latents whose images are PHOTO..., and with --pti tunes the generator to them.

    DIR gets latents.safetensors (a row for each photograph), with --pti tuned.safetensors (what changed in
    the generator; for `sample --tuned`), an image for each photograph, sheet.png and loss.png. Ctrl-C keeps
    the best so far there, and the same command goes on from it.
    """
    from sgxl_t.sampling.inversion.settings import InversionSettings
    from sgxl_t.sampling.output.animation import check_animation
    from sgxl_t.sampling.output.image_files import check_writable

    settings = InversionSettings(**numbers)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder with --out")
    check_writable(folder)
    if video is not None:
        check_animation(video, 12.0)

    from sgxl_t.sampling.inversion.invert import Inversion
    from sgxl_t.sampling.inversion.photos import read_photos
    from sgxl_t.sampling.inversion.state import finished_rows, load_state
    from sgxl_t.sampling.pipeline import Pipeline

    pipe = Pipeline.from_pretrained(model or demo_model(classes), device=device)
    asked = _asked(pipe, classes, prompts)
    config = pipe.generator.config
    read = read_photos(photos, config.img_resolution, config.img_channels)
    for photo in read:
        if photo.notes and not as_json:
            say(f"note: {photo.name}: {', '.join(photo.notes)}", err=True)
    inversion = Inversion(pipe.source, pipe.info, read, asked, settings, film=video is not None)
    rows = finished_rows(folder, inversion.key, overwrite=overwrite)
    if rows is None:
        state = load_state(folder)
        if state is not None and not overwrite:
            inversion.load_state(state)
            say(f"going on from step {inversion.step} of {inversion.steps}", err=True)
        rows = _carry_out(inversion, folder, video)
    _report(rows, folder, as_json)


def _asked(pipe: Pipeline, classes: tuple[str, ...], prompts: tuple[str, ...]) -> list[Any]:
    """The classes or prompts as resolved, [] for none; ValueError where the model takes no such."""
    kind = pipe.condition.kind
    if classes and kind != "class":
        raise ValueError(f"--class {classes[0][:60]} does not fit a model of kind {kind}: leave it out")
    if prompts and kind != "text":
        raise ValueError(f"--prompt {prompts[0][:60]!r} does not fit a model of kind {kind}: leave it out")
    return [one for word in (*classes, *prompts) for one in pipe.condition.resolve([word])]


def _carry_out(inversion: Inversion, folder: Path, video: str | None) -> list[dict[str, Any]]:
    """Runs what is left and writes the results; KeyboardInterrupt after a stop, with the best so far kept."""
    from tqdm import tqdm

    from sgxl_t.files.interrupt import StopRequest
    from sgxl_t.sampling.inversion.invert import run_inversion
    from sgxl_t.sampling.inversion.results import store, write_results

    with StopRequest() as stop:
        inversion.begin()
        for note in inversion.notes:
            say(f"note: {note}", err=True)
        left = {"total": inversion.steps, "initial": inversion.step}
        with tqdm(unit="step", delay=2, leave=False, disable=None, **left) as bar:
            done = run_inversion(
                inversion,
                store=lambda now: store(folder, now),
                stop=lambda: stop.requested,
                progress=_shown(bar),
            )
        rows = write_results(folder, inversion, done=done, film=video)
    if not done:
        say(
            f"stopped after step {inversion.step} of {inversion.steps}; the best so far is in {folder}, "
            "and the same command goes on",
            err=True,
        )
        raise KeyboardInterrupt
    return rows


def _shown(bar: Any) -> Callable[[Inversion, Step], None]:
    """Moves the bar and writes the phase, the mean loss and the median PSNR behind it."""

    def show(inversion: Inversion, step: Step) -> None:
        numbers = f"loss {float(step.losses.mean()):.4f}, {float(step.psnr.median()):.1f} dB"
        bar.set_postfix_str(f"{inversion.history.phases[-1]}, {numbers}", refresh=False)
        bar.update()

    return show


def _report(rows: list[dict[str, Any]], folder: Path, as_json: bool) -> None:
    if as_json:
        say_json(rows)
        return
    for row in rows:
        say(f"{row['photo']}: {row['psnr']:.1f} dB, {row['file']}")
    if rows:
        tuned = "" if rows[0]["tuned"] is None else f" and {Path(rows[0]['tuned']).name}"
        say(f"wrote latents.safetensors{tuned}, sheet.png in {folder} (features: {rows[0]['features']})")
