"""Which commands leave the choice of settings to a recipe."""

from __future__ import annotations

from typing import get_args

from sgxl_t.datasets.open import is_embedded
from sgxl_t.networks.configs import ConditionKind
from sgxl_t.training.config.config_file import typed_settings
from sgxl_t.training.config.short_names import long_names

OTHERWISE = ("config", "stages", "stage", "stem", "start", "h", "help", "help_all")
"""Flags of a run that is described in another way than by its data."""


def wants_recipe(arguments: list[str]) -> bool:
    """Whether the command names own data, and nothing else that describes a run; ValueError for mistypes."""
    flags = [one.partition("=")[0].lstrip("-") for one in long_names(arguments) if one.startswith("-")]
    if "data.source" not in flags or not set(OTHERWISE).isdisjoint(flags):
        return False
    typed = typed_settings(without_printing(arguments))
    known = typed.get("cond", "none") in get_args(ConditionKind)
    # Embedded sets have presets, and minutes are a limit alone there.
    return known and not is_embedded(typed["data.source"])


def without_printing(arguments: list[str]) -> list[str]:
    """The same command, for settings alone."""
    return [one for one in arguments if not one.startswith(("--print_config", "--print-config"))]
