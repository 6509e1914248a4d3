"""`sgxl-t train`: the same entry point as scripts/train.py."""

from __future__ import annotations

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    short_help="Train a generator; takes --cond, --config and --a.b.c VALUE.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> None:
    """Trains a generator; every key of the configuration is an option (`sgxl-t train --help-all`)."""
    from sgxl_t.training.train import main

    main(list(arguments))
