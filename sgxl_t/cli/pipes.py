"""The option by which a command lets lists of shards run commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sgxl_t.datasets.shards.source import ShardOptions

allow_pipe_option = click.option(
    "--data.allow_pipe",
    "allow_pipe",
    type=bool,
    default=False,
    metavar="BOOL",
    help="true: run the commands (pipe:COMMAND) that a list of shards names.",
)


def shard_options(allow_pipe: bool) -> ShardOptions:
    """How shards named on the command line are read: its own commands run, those of lists if allowed."""
    from sgxl_t.datasets.shards.discover import Consent
    from sgxl_t.datasets.shards.source import ShardOptions

    return ShardOptions(consent=Consent(allow_pipe=allow_pipe))
