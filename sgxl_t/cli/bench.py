"""`sgxl-t bench`: measures speed and memory on this machine and prints ratios."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import IO, Any

import click

from sgxl_t.files.terminal import say, say_lines

EXAMPLES = """\b
Examples:
  sgxl-t bench --quick
  sgxl-t bench --threads 1 --only "filtered_lrelu-*" --json filters.json
  sgxl-t bench --threads 1 --only sgxl-imagenet-16 --variant default --variant winograd --mode forward
  sgxl-t bench --threads 1 --only "sgt-lite-*" --against ../older-checkout
  sgxl-t bench --threads 1 --stages sgxl-imagenet-256 --dtype float32 --json stages.json"""

NO_ROW = 1
"""Exit code when a row is missing, because its result differs from the reference's or it could not run."""


@click.command(epilog=EXAMPLES)
@click.option("--quick", is_flag=True, help="Small cases, under a minute; their names end in -quick.")
@click.option("--json", "file", metavar="FILE", help="Write all rows as a list into FILE.")
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Cases to measure, by name or pattern (repeatable) [default: all].",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    multiple=True,
    metavar="N",
    help="Batch sizes to measure, of 1 and 4 [default: both].",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    multiple=True,
    help="Number type on our side [default: both].",
)
@click.option(
    "--mode", type=click.Choice(["forward", "forward_backward"]), multiple=True, help="[default: both]"
)
@click.option(
    "--variant",
    multiple=True,
    default=("default",),
    show_default=True,
    metavar="NAME",
    help="Backends, such as winograd, compiled, compiled+winograd; `all` for those of this machine.",
)
@click.option("--repeats", type=int, default=7, show_default=True, help="Measurements of each side.")
@click.option(
    "--threads",
    type=click.IntRange(0),
    default=0,
    help="Threads; 1 is timed by CPU time, which other programs hardly change [default: as torch chooses, by "
    "wall time].",
)
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="cpu, cuda, cuda:1.")
@click.option(
    "--against", metavar="PATH", help="Another version to compare with: a checkout or site-packages folder."
)
@click.option("--same-dtype", is_flag=True, help="Run the reference in the dtype of the row, not in float32.")
@click.option(
    "--keep-memory",
    is_flag=True,
    help="Return no memory to the system while measuring: otherwise large results need fresh pages, which "
    "slows down the plain operators most.",
)
@click.option(
    "--stages",
    metavar="MODEL",
    help="Instead of cases, measure every layer of a model such as sgxl-imagenet-256 and of the stages "
    "before it: time, arithmetic and rate beside a matrix product.",
)
@click.option("--list", "listed", is_flag=True, help="Only print the names of the cases.")
def bench(file: str | None, listed: bool, **options: Any) -> int:
    """Measures time and memory of operators, layers and whole generators, forward and with gradients.

    The reference is the same network with the same weights on the plain operators of sgxl_t.ops.reference in
    float32. Both run alternately in one process; a row appears only if their results agree. Times are
    medians. Exit code 1: a row is missing, for the reason that was printed.
    """
    from sgxl_t.bench.cases.cases import find_cases
    from sgxl_t.bench.request import check
    from sgxl_t.sampling.output.image_files import check_file

    request = _request(options)
    if listed:
        for case in find_cases(request.quick, request.only or ("*",)):
            say(case.name)
        return 0
    check(request)
    if file is not None:
        check_file(file)
    missing: list[str] = []
    rows = _show(request, missing.append)
    for sentence in missing:
        say(f"sgxl-t: {sentence}", err=True)
    if file is not None:
        _write(file, rows)
        say(f"wrote {file}: {len(rows)} rows")
    return NO_ROW if missing else 0


def _show(request: Any, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measures, prints each row when it is there, returns all for JSON."""
    from sgxl_t.bench import measure, rows
    from sgxl_t.bench.request import check
    from sgxl_t.bench.stages import stage_rows

    source: Any = measure.measure if request.stages is None else measure.measure_stages
    header, line = stage_rows.STAGE_HEADER, stage_rows.stage_line
    if request.stages is None:
        width = max(len(case.name) for case in check(request))
        header, line = rows.header(width), partial(rows.line, width=width)
    found: list[dict[str, Any]] = []
    for row in source(request, tell):
        if not found:
            say_lines(header)
        found.append(row.as_json())
        say_lines(line(row))
    if found:
        say_lines(rows.protocol(found))
    return found


def _write(file: str, rows: list[dict[str, Any]]) -> None:
    """The whole file or none."""
    from sgxl_t.sampling.output.image_files import save_whole

    def write(stream: IO[bytes]) -> None:
        stream.write((json.dumps(rows, indent=1) + "\n").encode())

    save_whole(file, write)


def _request(options: dict[str, Any]) -> Any:
    """Options to a request; `all` becomes the backends of the device."""
    import torch

    from sgxl_t.bench.request import BenchRequest
    from sgxl_t.bench.variants import variants

    for name in ("batch", "dtype", "mode", "variant"):
        plural = "batches" if name == "batch" else f"{name}s"
        options[plural] = tuple(dict.fromkeys(options.pop(name)))
    try:
        known = variants(torch.device(options["device"]))
    except RuntimeError:
        raise ValueError(f"--device {options['device']} is not a device: use cpu or cuda") from None
    if "all" in options["variants"]:
        options["variants"] = tuple(known)
    return BenchRequest(**options)
