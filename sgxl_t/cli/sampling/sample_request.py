"""What `sgxl-t sample` and `sgxl-t interpolate` share: options, and how prompts and classes are resolved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import click

from sgxl_t.files.terminal import say

if TYPE_CHECKING:
    from sgxl_t.sampling.pipeline import Pipeline
    from sgxl_t.sampling.prompt_file import PromptLine
    from sgxl_t.sampling.sample_spec import AnySpec
    from sgxl_t.sampling.sheets.grid_rows import ConditionEntry

Decorator = Callable[[Any], Any]


def _grouped(*options: Decorator) -> Decorator:
    """One decorator for several, which help lists in this order."""

    def wrap(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return wrap


subject_options = _grouped(
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
        help="Text file with a prompt or class per line; a line may set its own psi and seed: "
        "`a red fox | psi=0.7 | seed=3`.",
    ),
    click.option(
        "--model",
        metavar="PATH",
        help="Model folder, run folder or Hub id [default: demo_text, or demo_class for --class].",
    ),
    click.option(
        "--seeds", default="0", show_default=True, metavar="LIST", help="Seeds, such as 3, 0-7 or 0,4,8-11."
    ),
)
truncation_options = _grouped(
    click.option(
        "--truncation",
        type=click.Choice(["class", "centroid", "global"]),
        default="class",
        show_default=True,
        help="What psi below 1 moves images towards: the average of the class or prompt, the nearest centre "
        "found by `sgxl-t centroids`, or the average of all classes.",
    ),
    click.option("--cutoff", type=int, metavar="N", help="Truncate only the first N styles."),
)


overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace existing files that hold other images."
)


@dataclass(frozen=True)
class RuntimeOptions:
    """Device, precision and sampling mode; batch_size None takes as many images as fit."""

    batch_size: int | None
    device: str | None
    precision: Any
    optimize: bool
    conv: Any
    filter: Any
    compile: bool
    cuda_graphs: bool
    tuned: str | None

    def open(self, model: str | None, classes: Sequence[str] = ()) -> Pipeline:
        """The pipeline of a model folder, run folder or Hub id; without one, of the demo model that draws
        prompts or, where there are any, these classes."""
        from sgxl_t.sampling.pipeline import Pipeline

        return Pipeline.from_pretrained(
            model or demo_model(classes), device=self.device, precision=self.precision, tuned=self.tuned
        )

    def speed_up(self, pipe: Pipeline, count: int) -> None:
        """Sampling mode for `count` images where it was asked for, and a line about it on stderr."""
        if not (self.optimize or self.conv or self.filter or self.compile or self.cuda_graphs):
            return
        size, builds = None, self.filter in ("compiled", "triton") and pipe.device.type != "cpu"
        if self.cuda_graphs or self.compile or builds:
            size = min(self.batch_size or pipe.fitting_batch(), max(count, 1))
        done = pipe.optimize(
            conv=self.conv,
            filter=self.filter,
            compile=self.compile,
            cuda_graphs=self.cuda_graphs,
            batch_size=size,
            progress=partial(say, err=True),
        )
        say(str(done), err=True)


def _batch_size(context: click.Context, option: click.Parameter, value: str) -> int | None:
    """Number, or None for auto; a click error otherwise."""
    if value == "auto":
        return None
    try:
        number = int(value)
    except ValueError:
        raise click.BadParameter(
            f"batch_size={value[:20]!r} is not a number: use 1 or more, or auto"
        ) from None
    if number < 1:
        raise click.BadParameter(f"batch_size={number} is too small: use 1 or more, or auto")
    return number


_RUNTIME_OPTIONS = _grouped(
    click.option(
        "--batch-size",
        default="auto",
        show_default=True,
        metavar="N",
        callback=_batch_size,
        help="Images at a time; auto: as many as fit into memory, up to 16.",
    ),
    click.option(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps [default: cuda where there is one]."
    ),
    click.option(
        "--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True
    ),
    click.option(
        "--optimize", is_flag=True, help="Sampling mode: compute once what does not depend on the seed."
    ),
    click.option(
        "--conv",
        type=click.Choice(["direct", "winograd"]),
        help="With --optimize: winograd is faster for wide layers on a CPU, errors about 1e-5.",
    ),
    click.option(
        "--filter",
        type=click.Choice(["band", "compiled", "triton"]),
        help="With --optimize: filters by a compiler, or as Triton kernels on a GPU.",
    ),
    click.option("--compile", is_flag=True, help="With --optimize: compile the synthesis, for long runs."),
    click.option("--cuda-graphs", is_flag=True, help="With --optimize: launch the synthesis as one graph."),
    click.option(
        "--tuned",
        metavar="FILE",
        help="What `sgxl-t invert --pti` changed in the generator.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON."),
)


def runtime_options(command: Callable[..., None]) -> Any:
    """Decorator: options about device and speed, which `command` gets as `runtime`, and `as_json`."""

    @wraps(command)
    def call(**options: Any) -> None:
        runtime = RuntimeOptions(**{name: options.pop(name) for name in RuntimeOptions.__annotations__})
        command(runtime=runtime, **options)

    return _RUNTIME_OPTIONS(call)


def demo_model(classes: Sequence[str] = ()) -> str:
    """The model that ships in the package: the one of classes where some are named, else that of prompts."""
    from sgxl_t.model_io import named_model

    folder = named_model.packaged_model(named_model.DEMO_CLASS_MODEL if classes else named_model.DEMO_MODEL)
    if folder is None:
        raise ValueError("this installation ships no demo model: name a model with --model, such as RUN/best")
    return str(folder)


def resolve_entries(
    pipe: Pipeline,
    prompts: Sequence[str],
    classes: Sequence[str],
    lines: Sequence[PromptLine],
    *,
    all_classes: bool = False,
) -> list[ConditionEntry]:
    """The prompts and classes in the order written; ValueError where they do not fit the model.

    lines: of a prompt file. all_classes: where nothing is named, a class model gives all of its classes.
    """
    from sgxl_t.sampling.sheets.grid_rows import ConditionEntry

    condition = pipe.condition
    _check_kind(condition.kind, prompts or [line.text for line in lines if condition.kind == "none"], classes)
    found = [ConditionEntry(one) for word in (*prompts, *classes) for one in condition.resolve([word])]
    found += [
        ConditionEntry(one, line.psi, line.seed) for line in lines for one in condition.resolve([line.text])
    ]
    if not found and condition.kind == "class" and all_classes:
        return [ConditionEntry(number) for number in range(len(condition.names))]
    return found or [ConditionEntry(one) for one in condition.resolve([])]


def note_reading(pipe: Pipeline, specs: Sequence[AnySpec]) -> None:
    """Says on stderr which parts of the prompts have no effect."""
    conditions = [condition for spec in specs for condition in spec.conditions]
    for note in pipe.condition.reading_notes(list(dict.fromkeys(conditions))):
        say(f"note: {note}", err=True)


def grid_label(pipe: Pipeline) -> Callable[[Any], str]:
    """Names beside grids; classes carry their number, so that they can be asked for by it."""

    def label(condition: Any) -> str:
        name = pipe.condition.label(condition)
        numbered = pipe.condition.kind == "class" and name.split()[0] != str(condition)
        return f"{condition} {name}" if numbered else name

    return label


def _check_kind(kind: str, prompts: Sequence[str], classes: Sequence[str]) -> None:
    """Raises ValueError for prompts or classes that a model of this kind of condition does not take."""
    way_out = {
        "text": 'say in words what to draw, such as sgxl-t sample "a red fox"',
        "class": "use --class with a name or number (sgxl-t info MODEL lists them)",
        "none": "it draws what it was trained on, so leave prompts and classes out and vary --seeds",
    }[kind]
    what = {"text": "draws from text", "class": "draws classes", "none": "has no condition"}[kind]
    if classes and kind != "class":
        raise ValueError(f"--class {classes[0][:60]} does not fit, since this model {what}: {way_out}")
    if prompts and kind != "text":
        raise ValueError(f"the prompt {prompts[0][:60]!r} does not fit, since this model {what}: {way_out}")
