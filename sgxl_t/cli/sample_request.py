"""What `sgxl-t sample` and `sgxl-t interpolate` share: options, and what prompts and classes mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sgxl_t.sampling.pipeline import Pipeline
    from sgxl_t.sampling.requests import Line
    from sgxl_t.sampling.shots import Asked

DEMO_MODEL = "demo_text"

Decorator = Callable[[Any], Any]


def _together(*options: Decorator) -> Decorator:
    """One decorator for several, which help lists in this order."""

    def wrap(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return wrap


subject_options = _together(
    click.argument("prompts", nargs=-1),
    click.option(
        "--class",
        "classes",
        multiple=True,
        metavar="NAME",
        help="Class by name, number or range 0-9; repeatable.",
    ),
    click.option(
        "--prompts",
        "prompt_file",
        metavar="FILE",
        help="Text file, a prompt or class per line; `a red fox | psi=0.7 | seed=3` gives a line its own.",
    ),
    click.option(
        "--model", metavar="PATH", help="Model folder or Hub id; without it, the demo model of the package."
    ),
    click.option(
        "--seeds", default="0", show_default=True, metavar="LIST", help="Seeds, such as 3, 0-7 or 0,4,8-11."
    ),
)
truncation_options = _together(
    click.option(
        "--truncation",
        type=click.Choice(["class", "centroid", "global"]),
        default="class",
        show_default=True,
        help="What psi below 1 pulls to: the average of the class or prompt, the nearest centre that `sgxl-t "
        "centroids` made, or the average of all classes.",
    ),
    click.option("--cutoff", type=int, metavar="N", help="Truncate only the first N styles."),
)
machine_options = _together(
    click.option(
        "--batch-size", type=int, default=16, show_default=True, metavar="N", help="Pictures at a time."
    ),
    click.option(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps [default: cuda where there is one]."
    ),
    click.option(
        "--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True
    ),
    click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON."),
)


def demo_model() -> str:
    """The model that ships in the package."""
    folder = Path(str(resources.files("sgxl_t") / "assets" / DEMO_MODEL))
    if not folder.is_dir():
        raise ValueError("this installation ships no demo model: name a model with --model, such as RUN/best")
    return str(folder)


def asked_of(
    pipe: Pipeline,
    prompts: Sequence[str],
    classes: Sequence[str],
    lines: Sequence[Line],
    *,
    everything: bool = False,
) -> list[Asked]:
    """What the model is asked for, in the order written; ValueError where words and model do not fit.

    lines: of a prompt file. everything: without a word, a class model is asked for all of its classes.
    """
    from sgxl_t.sampling.shots import Asked

    condition = pipe.condition
    if classes and condition.kind != "class":
        raise ValueError(
            f"--class {classes[0]} needs a class model and this is a {condition.kind} model: give a prompt "
            "instead"
        )
    if prompts and condition.kind == "class":
        raise ValueError(
            f"the prompt {prompts[0][:60]!r} needs a text model and this is a class model: use --class"
        )
    found = [Asked(one) for word in (*prompts, *classes) for one in condition.resolve([word])]
    found += [Asked(one, line.psi, line.seed) for line in lines for one in condition.resolve([line.text])]
    if not found and condition.kind == "class" and everything:
        return [Asked(number) for number in range(len(condition.names))]
    found = found or [Asked(one) for one in condition.resolve([])]
    _note_unknown_words(pipe, [condition.label(one.condition) for one in found])
    return found


def grid_label(pipe: Pipeline) -> Callable[[Any], str]:
    """Names beside grids; classes carry their number, so that they can be asked for by it."""

    def label(condition: Any) -> str:
        name = pipe.condition.label(condition)
        numbered = pipe.condition.kind == "class" and name.split()[0] != str(condition)
        return f"{condition} {name}" if numbered else name

    return label


def _note_unknown_words(pipe: Pipeline, prompts: list[str]) -> None:
    """A word that the text encoder never saw changes nothing in the picture, which people should know."""
    if pipe.condition.kind != "text":
        return
    unknown = pipe.condition.encoder.unknown_words(prompts)
    if unknown:
        shown = ", ".join(unknown[:8]) + (" ..." if len(unknown) > 8 else "")
        click.echo(f"note: the model's text encoder does not know: {shown}", err=True)
