"""`sgxl-t`: the commands by name, each imported only when it is called."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

import sgxl_t
from sgxl_t.cli.errors import run, short_of_memory
from sgxl_t.cli.group import Group
from sgxl_t.files.memory import MemoryShortError, is_out_of_memory
from sgxl_t.files.terminal import VisibleFormatter

COMMANDS = {
    "sample": ("sgxl_t.cli.sampling.sample", "Generate images from text or classes."),
    "interpolate": (
        "sgxl_t.cli.sampling.interpolate",
        "Walk from key to key: prompts, classes, seeds, latents.",
    ),
    "invert": (
        "sgxl_t.cli.inversion.invert",
        "Find latents of photographs, tune the generator to them.",
    ),
    "invert-train": (
        "sgxl_t.cli.inversion.invert_train",
        "Train a model's encoder, which gives inversion a close start.",
    ),
    "grid": ("sgxl_t.cli.sampling.grid", "Sheets: sweeps, style mixing, stages, nearest images."),
    "edit": ("sgxl_t.cli.sampling.edit", "Find directions and move images along them."),
    "train": ("sgxl_t.cli.train", "Train a generator; the same as scripts/train.py."),
    "evaluate": ("sgxl_t.cli.evaluation.evaluate", "Measure models, images or results side by side."),
    "prepare": ("sgxl_t.cli.prepare", "Turn images of any layout into a zip or shards."),
    "centroids": ("sgxl_t.cli.centroids", "Find centres of styles for multi-modal truncation."),
    "import": (
        "sgxl_t.cli.import_official",
        "Turn an official StyleGAN-XL or -T pickle into a model folder.",
    ),
    "features": ("sgxl_t.cli.features", "Train, list and inspect local feature networks."),
    "info": ("sgxl_t.cli.info", "Say what a model, data set or run folder holds."),
    "bench": ("sgxl_t.cli.bench", "Measure speed and memory on this machine."),
    "doctor": ("sgxl_t.cli.doctor", "Say what this machine can do."),
}
"""Name to the module that holds the command under the same name, and its line in the help."""


class LazyGroup(Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        return getattr(import_module(COMMANDS[cmd_name][0]), cmd_name.replace("-", "_"))

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; where memory runs out, the sentence knows whether it works in batches."""
        try:
            return super().invoke(ctx)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            batches = command is not None and any("--batch-size" in one.opts for one in command.params)
            raise MemoryShortError(short_of_memory(error, batches=batches)) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, from the table, so that help imports nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(sgxl_t.__version__, prog_name="sgxl-t")
def cli() -> None:
    """Fast one-pass image GANs: train on your own images, sample from text or classes.

    Every command has --help. Exit codes: 0 done, 2 a mistake in the request, 130 interrupted; training has
    more (docs/faults.md), so that a scheduler knows when to start it again.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script; always leaves through SystemExit."""
    listed = list(sys.argv[1:] if arguments is None else arguments)
    if not listed:
        listed = ["--help"]
    if logging.lastResort is not None:  # it prints warnings where a command sets up no log
        logging.lastResort.setFormatter(VisibleFormatter())
    sys.exit(run(lambda: cli.main(args=listed, prog_name="sgxl-t", standalone_mode=False)))


if __name__ == "__main__":
    main()
