"""`sgxl-t sample`: pictures from prompts or classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
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
  sgxl-t sample --model demo/class --class 0-9 --psi 0.7 --out digits
  sgxl-t sample --model imagenet256 --class "golden retriever" --class 0-31 --sheet dogs.png"""


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
@click.option(
    "--truncation",
    type=click.Choice(["class", "centroid", "global"]),
    default="class",
    show_default=True,
    help="What psi below 1 pulls to: the average of the class or prompt, the nearest centre that `sgxl-t "
    "centroids` made, or the average of all classes.",
)
@click.option("--cutoff", type=int, metavar="N", help="Truncate only the first N styles.")
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for one PNG per picture [default: samples, unless --grid or --sheet is given].",
)
@click.option("--grid", metavar="FILE", help="One PNG with a row per prompt or class and a column per seed.")
@click.option(
    "--sheet",
    metavar="FILE",
    help="Sample sheet as PNG, a row per class or prompt and a column per seed, in pages (FILE-1.png, ...) "
    "where one is not enough; without --class, all classes.",
)
@click.option(
    "--sheet-rows", type=int, default=32, show_default=True, metavar="N", help="Rows on a page of --sheet."
)
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
    truncation: Any,
    cutoff: int | None,
    out: str | None,
    grid: str | None,
    sheet: str | None,
    sheet_rows: int,
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
    from sgxl_t.sampling.sheet import page_files

    numbers = parse_seeds(seeds)
    check_psi(psi)
    wanted = [*prompts, *(read_prompts(prompt_file) if prompt_file is not None else [])]
    folder = check_writable(out or "samples") if out is not None or not (grid or sheet) else None
    if grid is not None:
        check_writable(Path(grid).parent)
    if sheet is not None:
        page_files(sheet, 1, sheet_rows)

    from tqdm import tqdm

    from sgxl_t.sampling.pipeline import Pipeline

    pipe = Pipeline.from_pretrained(model or _demo_model(), device=device, precision=precision)
    request = _request(pipe, wanted, classes, everything=sheet is not None)
    resolved = pipe.condition.resolve(request)
    labels = [pipe.condition.label(one) for one in resolved]
    _note_unknown_words(pipe, labels)
    pictures = pipe.iterate(
        request, seeds=numbers, psi=psi, cutoff=cutoff, truncation=truncation, batch_size=batch_size
    )
    # The bar waits two seconds, so quick requests print one line only, and stays away from files and pipes.
    bar = tqdm(pictures, total=len(labels) * len(numbers), unit="picture", delay=2, leave=False, disable=None)
    written: list[dict[str, Any]] = []
    kept: list[Picture] | None = None if grid is None else []
    saved = _saved(bar, labels, folder, written, kept)
    pages = [] if sheet is None else _write_sheets(saved, pipe, resolved, numbers, sheet, sheet_rows)
    for _ in saved:  # those that no page took
        pass
    if grid is not None and kept is not None:
        _write_grid(kept, labels, numbers, grid)
    _report(written, grid, pages, as_json)


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


def _request(pipe: Pipeline, prompts: list[str], classes: tuple[str, ...], *, everything: bool) -> Any:
    """What the model is asked for, each once; ValueError where words and model do not go together.

    everything: without a word, a class model is asked for all of its classes.
    """
    kind = pipe.condition.kind
    if classes and kind != "class":
        raise ValueError(
            f"--class {classes[0]} needs a class model and this is a {kind} model: give a prompt instead"
        )
    if prompts and kind == "class":
        raise ValueError(
            f"the prompt {prompts[0][:60]!r} needs a text model and this is a class model: use --class"
        )
    if kind == "class" and everything and not classes:
        return list(range(len(pipe.condition.names)))
    if kind == "class":
        return list(dict.fromkeys(pipe.condition.resolve(classes)))
    return list(dict.fromkeys(prompts))


def _saved(
    pictures: Iterable[Picture],
    labels: list[str],
    folder: Path | None,
    written: list[dict[str, Any]],
    kept: list[Picture] | None,
) -> Iterator[Picture]:
    """Passes the pictures on; saves each in the folder, and notes and keeps it, where these are given."""
    from sgxl_t.sampling.files import picture_names, save_png

    names = picture_names(labels)
    for picture in pictures:
        if folder is not None:
            path = save_png(picture.image, folder / f"{names[picture.condition]}-seed{picture.seed:04d}.png")
            written.append({"file": str(path), "condition": picture.condition, "seed": picture.seed})
        if kept is not None:
            kept.append(picture)
        yield picture


def _write_sheets(
    pictures: Iterable[Picture], pipe: Pipeline, resolved: list[Any], seeds: list[int], file: str, rows: int
) -> list[str]:
    """The pages of the sheet; classes carry their number, so that they can be asked for by it."""
    from sgxl_t.sampling.sheet import write_sheets

    labels = [pipe.condition.label(one) for one in resolved]
    if pipe.condition.kind == "class":
        labels = [
            label if label.split()[0] == str(number) else f"{number} {label}"
            for number, label in zip(resolved, labels, strict=True)
        ]
    side = pipe.generator.img_resolution
    return [str(path) for path in write_sheets(pictures, labels, seeds, file, side=side, rows_per_page=rows)]


def _write_grid(pictures: list[Picture], labels: list[str], seeds: list[int], grid: str) -> None:
    from sgxl_t.sampling.files import save_png
    from sgxl_t.sampling.grid import labelled_grid

    columns = [f"seed {seed}" for seed in seeds]
    save_png(labelled_grid([picture.image for picture in pictures], labels, columns), grid)


def _report(written: list[dict[str, Any]], grid: str | None, pages: list[str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"pictures": written, "grid": grid, "sheet": pages}, indent=2))
        return
    if written:
        last = "" if len(written) == 1 else f" and {len(written) - 1} more"
        click.echo(f"wrote {written[0]['file']}{last}")
    if grid is not None:
        click.echo(f"wrote {grid}")
    if pages:
        click.echo(f"wrote {pages[0]}" + ("" if len(pages) == 1 else f" to {pages[-1]}"))
