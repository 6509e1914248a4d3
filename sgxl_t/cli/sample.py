"""`sgxl-t sample`: pictures from prompts or classes."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sgxl_t.sampling.pipeline import Picture, Pipeline

DEMO_MODEL = "demo_text"
EXAMPLES = """\b
Examples:
  sgxl-t sample "a red fox in snow"
  sgxl-t sample "a red fox in snow" --model demo/text --seeds 0-7 --grid fox.png
  sgxl-t sample --model demo/class --class 0-9 --psi 0.7 --out digits"""


@click.command(epilog=EXAMPLES)
@click.argument("prompts", nargs=-1)
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME",
    help="Class by name, number or range 0-9; repeatable.",
)
@click.option("--prompts", "prompt_file", metavar="FILE", help="Text file with one prompt per line.")
@click.option(
    "--model", metavar="PATH", help="Model folder or Hub id; without it, the demo model of the package."
)
@click.option(
    "--seeds", default="0", show_default=True, metavar="LIST", help="Seeds, such as 3, 0-7 or 0,4,8-11."
)
@click.option(
    "--psi",
    type=float,
    default=1.0,
    show_default=True,
    help="Truncation: 1 most varied, 0 the average picture.",
)
@click.option("--cutoff", type=int, metavar="N", help="Truncate only the first N styles.")
@click.option(
    "--out", metavar="DIR", help="Folder for one PNG per picture [default: samples, unless --grid is given]."
)
@click.option("--grid", metavar="FILE", help="One PNG with a row per prompt or class and a column per seed.")
@click.option(
    "--batch-size", type=int, default=16, show_default=True, metavar="N", help="Pictures at a time."
)
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps [default: cuda where there is one].")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def sample(
    prompts: tuple[str, ...],
    classes: tuple[str, ...],
    prompt_file: str | None,
    model: str | None,
    seeds: str,
    psi: float,
    cutoff: int | None,
    out: str | None,
    grid: str | None,
    batch_size: int,
    device: str | None,
    precision: Any,
    as_json: bool,
) -> None:
    """Makes pictures from PROMPTS, or from the classes named with --class.

    Every prompt or class is drawn once per seed, each picture into its own file named by both.
    """
    # Everything that can be wrong without the model is checked before the slow imports and the loading.
    from sgxl_t.sampling.files import check_writable
    from sgxl_t.sampling.requests import check_psi, parse_seeds, read_prompts

    numbers = parse_seeds(seeds)
    check_psi(psi)
    wanted = [*prompts, *(read_prompts(prompt_file) if prompt_file is not None else [])]
    folder = check_writable(out or "samples") if out is not None or grid is None else None
    if grid is not None:
        check_writable(Path(grid).parent)

    from tqdm import tqdm

    from sgxl_t.sampling.pipeline import Pipeline

    pipe = Pipeline.from_pretrained(model or _demo_model(), device=device, precision=precision)
    request = _request(pipe, wanted, classes)
    labels = [pipe.condition.label(one) for one in pipe.condition.resolve(request)]
    _note_unknown_words(pipe, labels)
    pictures = pipe.iterate(request, seeds=numbers, psi=psi, cutoff=cutoff, batch_size=batch_size)
    # The bar waits two seconds, so quick requests print one line only, and stays away from files and pipes.
    bar = tqdm(pictures, total=len(labels) * len(numbers), unit="picture", delay=2, leave=False, disable=None)
    written, kept = _write(bar, labels, folder, keep=grid is not None)
    if grid is not None:
        _write_grid(kept, labels, numbers, grid)
    _report(written, grid, as_json)


def _demo_model() -> str:
    """The model that ships in the package."""
    folder = Path(str(resources.files("sgxl_t") / "assets" / DEMO_MODEL))
    if not folder.is_dir():
        raise ValueError("this installation ships no demo model: name a model with --model, such as RUN/best")
    return str(folder)


def _note_unknown_words(pipe: Pipeline, prompts: list[str]) -> None:
    """A word that the text encoder never saw changes nothing in the picture, which people should know."""
    if pipe.condition.kind != "text":
        return
    unknown = pipe.condition.encoder.unknown_words(prompts)
    if unknown:
        shown = ", ".join(unknown[:8]) + (" ..." if len(unknown) > 8 else "")
        click.echo(f"note: the model's text encoder does not know: {shown}", err=True)


def _request(pipe: Pipeline, prompts: list[str], classes: tuple[str, ...]) -> Any:
    """What the model is asked for, each once; ValueError where words and model do not go together."""
    kind = pipe.condition.kind
    if classes and kind != "class":
        raise ValueError(
            f"--class {classes[0]} needs a class model and this is a {kind} model: give a prompt instead"
        )
    if prompts and kind == "class":
        raise ValueError(
            f"the prompt {prompts[0][:60]!r} needs a text model and this is a class model: use --class"
        )
    if kind == "class":
        return list(dict.fromkeys(pipe.condition.resolve(classes)))
    return list(dict.fromkeys(prompts))


def _write(
    pictures: Any, labels: list[str], folder: Path | None, *, keep: bool
) -> tuple[list[dict[str, Any]], list[Picture]]:
    """Saves every picture as it comes; returns what was written, and the pictures where they are needed."""
    from sgxl_t.sampling.files import picture_names, save_png

    names = picture_names(labels)
    written: list[dict[str, Any]] = []
    kept: list[Picture] = []
    for picture in pictures:
        if folder is not None:
            path = save_png(picture.image, folder / f"{names[picture.condition]}-seed{picture.seed:04d}.png")
            written.append({"file": str(path), "condition": picture.condition, "seed": picture.seed})
        if keep:
            kept.append(picture)
    return written, kept


def _write_grid(pictures: list[Picture], labels: list[str], seeds: list[int], grid: str) -> None:
    from sgxl_t.sampling.files import save_png
    from sgxl_t.sampling.grid import labelled_grid

    columns = [f"seed {seed}" for seed in seeds]
    save_png(labelled_grid([picture.image for picture in pictures], labels, columns), grid)


def _report(written: list[dict[str, Any]], grid: str | None, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"pictures": written, "grid": grid}, indent=2))
        return
    if written:
        last = "" if len(written) == 1 else f" and {len(written) - 1} more"
        click.echo(f"wrote {written[0]['file']}{last}")
    if grid is not None:
        click.echo(f"wrote {grid}")
