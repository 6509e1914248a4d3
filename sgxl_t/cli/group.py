"""A group of commands that says which command or option a mistyped one was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import click

from sgxl_t.files.terminal import visible


class Group(click.Group):
    """A group that names the nearest of its commands where there is none of a name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As in click, with a sentence of our own."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            near = _meant(name, self.list_commands(ctx))
            ctx.fail(f"there is no command {visible(name)}{near}; {ctx.command_path} --help lists them all")
        return super().resolve_command(ctx, args)


def no_such_option(error: click.NoSuchOption) -> str:
    """The sentence about an option that a command does not have."""
    option = visible(error.option_name)
    if error.ctx is None:
        return f"there is no option {option}"
    known = [
        name for one in error.ctx.command.get_params(error.ctx) for name in (*one.opts, *one.secondary_opts)
    ]
    near = _meant(error.option_name, (name for name in known if name.startswith("--")))
    return f"there is no option {option}{near}; {error.ctx.command_path} --help lists them all"


def _meant(typed: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(typed, list(known), n=1)
    return f", did you mean {near[0]}?" if near else ""
