"""Choices of a configuration to which code outside of the package may add its own."""

from __future__ import annotations

import sys
from typing import Literal, get_args


def add_choice(module: str, alias: str, choice: str) -> None:
    """Adds a word to the Literal that a module holds under `alias`.

    Fields annotated with it are parsed, explained and read from files by that hint, so the word is then a
    choice like the others. ValueError where there is one of this name.
    """
    names = vars(sys.modules[module])
    choices = get_args(names[alias])
    if choice in choices:
        raise ValueError(f"{choice!r} is taken ({', '.join(choices)}): choose another name")
    names[alias] = Literal[(*choices, choice)]
