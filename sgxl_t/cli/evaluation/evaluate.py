"""`sgxl-t evaluate`: metrics of models, of folders of images, or of earlier results, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sgxl_t.cli.evaluation.evaluate_options import EvaluateOptions
from sgxl_t.cli.pipes import allow_pipe_option
from sgxl_t.files.terminal import say, say_json, say_lines

if TYPE_CHECKING:
    from sgxl_t.cli.evaluation.evaluate_request import Request
    from sgxl_t.metrics.processes import Processes

EXAMPLES = """\b
Examples:
  sgxl-t evaluate runs/a/best runs/b/best --data photos.zip --metrics fid10k,kid10k
  sgxl-t evaluate runs/a/best --data digits --metrics fd_random_1k --json results.jsonl
  sgxl-t evaluate runs/a/best --data photos --metrics fid50k,pr --weights inception=inception.pth
  sgxl-t evaluate --coco captions_val2014.json --prompts coco-30k.jsonl
  sgxl-t evaluate A --data coco256.zip --prompts coco-30k.jsonl --metrics fid_coco64,cs_coco --curve curve.csv
  sgxl-t evaluate old.jsonl new.jsonl
  accelerate launch --config_file configs/launch/cpu2.yaml -m sgxl_t.cli evaluate runs/a/best --data photos"""


@click.command(epilog=EXAMPLES)
@click.argument("targets", nargs=-1, metavar="A [B ...]")
@click.option("--data", metavar="D", help="Real pictures: folder, .zip, shards, digits, emoji-scenes:24x8.")
@allow_pipe_option
@click.option("--split", default="train", show_default=True, help="Split of the data.")
@click.option(
    "--metrics", default="", metavar="LIST", help="Such as fid50k,kid,fd_local:FOLDER.  [default: fid,kid]"
)
@click.option(
    "--preset", metavar="NAME", help="official, adm or clean: settings and default metrics of tables."
)
@click.option(
    "--psi",
    metavar="LIST",
    help="Truncation, one number or several.  [default: 1; with --curve 1,0.9,...,0.3]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Picture i is made from seed + i.")
@click.option(
    "--repeats", type=int, default=1, show_default=True, help="Seeds, far apart; gives mean and spread."
)
@click.option(
    "--class-sampling",
    default="uniform",
    show_default=True,
    metavar="RULE",
    help="uniform, dataset, balanced.",
)
@click.option(
    "--prompts",
    metavar="FILE",
    help="One prompt per picture, instead of captions of the data: a text file, or a list of --coco.",
)
@click.option(
    "--coco",
    metavar="FILE",
    help="COCO's captions (captions_val2014.json): draws 30,000 prompts, one caption each of pictures with "
    "replacement, and freezes them in --prompts where that is no file yet; without A, nothing else.",
)
@click.option("--coco-seed", type=int, metavar="N", help="Seed of the list that --coco draws.  [default: 0]")
@click.option(
    "--batch-size", type=int, default=32, show_default=True, metavar="N", help="Pictures at a time."
)
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1  [default: cuda where there is one]")
@click.option(
    "--weights",
    multiple=True,
    metavar="NAME=FILE",
    help="Weights of an extractor, or of the CLIP of cs as clip=FILE, or a URL; repeatable.",
)
@click.option(
    "--sha256", multiple=True, metavar="NAME=HEX", help="Hash that these weights must have; repeatable."
)
@click.option("--cache", metavar="DIR", help="Features of real sides.  [default: the user's cache folder]")
@click.option(
    "--json", "json_file", metavar="FILE", help="Add the results to FILE, one JSON line each; - prints them."
)
@click.option("--csv", "csv_file", metavar="FILE", help="Write the results as a table.")
@click.option("--curve", metavar="FILE", help="CSV and SVG of distance against CLIP score over several psi.")
def evaluate(**options: Any) -> None:
    """Measures A, B, ...: model folders, runs, folders or zips of images, or results of earlier calls.

    Names say how many images are made: fid10k, kid2k, pr50k, fd_random_500. Interrupted work goes on when
    the same command is typed again. Numbers of different protocols are not put side by side.
    """
    from sgxl_t.metrics.processes import join_processes, leave_processes

    processes = join_processes()
    try:
        _run(EvaluateOptions(**options), processes)
    except (ValueError, OSError):
        # All processes have the error; one sentence from the main one is enough.
        if processes.is_main:
            raise
        raise click.exceptions.Exit(2) from None
    finally:
        leave_processes()


def _run(options: EvaluateOptions, processes: Processes) -> None:
    from sgxl_t.cli.evaluation.evaluate_prompts import coco_list
    from sgxl_t.cli.evaluation.evaluate_request import check_outputs, open_request

    processes.agree(lambda: check_outputs(options))
    if not options.targets and options.coco and options.prompts:
        prompts = processes.agree(lambda: coco_list(options, processes))
        if processes.is_main:
            say(f"{options.prompts}: {len(prompts.prompts)} prompts, hash {prompts.hash}")
        return
    request = processes.agree(lambda: open_request(options, processes))
    processes.agree(request.check)
    with request.alone():
        _measure(request)


def _measure(request: Request) -> None:
    """Measures every model at every psi, then writes and prints on the main process."""
    from sgxl_t.metrics.results import over_seeds

    measured: list[dict[str, Any]] = []
    for number in range(len(request.targets)):
        for psi in request.psis:
            measured += over_seeds([request.measure(number, psi, seed) for seed in request.options.seeds])
    request.processes.agree(lambda: _write(request, measured) if request.processes.is_main else None)


def _write(request: Request, measured: list[dict[str, Any]]) -> None:
    from sgxl_t.metrics.curve import points_of, write_curve
    from sgxl_t.metrics.results import comparison, write_csv, write_results

    options, entries = request.options, [*request.known, *measured]
    if options.curve:
        points, name = points_of(measured)
        write_curve(points, options.curve, name=name)
    if options.csv_file:
        write_csv(options.csv_file, entries)
    printed = options.json_file == "-"
    if printed:
        for entry in entries:
            say_json(entry, indent=None)
    else:
        if options.json_path:
            write_results(options.json_path, measured)
        say_lines(comparison(entries))
    for line in request.summary():
        say(line, err=printed)
    request.forget()
