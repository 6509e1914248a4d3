"""Configurations read from YAML and flags, and written again."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from sgxl_t.files.terminal import say_lines
from sgxl_t.networks import configs
from sgxl_t.training.config.config import TrainConfig
from sgxl_t.training.config.config_words import plain_words
from sgxl_t.training.config.short_names import HELP, long_names
from sgxl_t.training.config.stage_config import flat_settings


def preset_path(cond: str) -> Path:
    """YAML of the small run that `--cond` alone starts."""
    return Path(str(resources.files("sgxl_t.training.config") / "presets" / f"{cond}.yaml"))


def _parser(*, explained: bool = False) -> Any:
    """explained: the help holds the line of each field, for which sources are read again."""
    return _made_parser(
        explained, configs.ConditionName, configs.GeneratorFamily, configs.DiscriminatorFamily
    )


@cache
def _made_parser(explained: bool, *_choices: Any) -> Any:
    """Made once for the choices that there are, since a command is read more than once."""
    from jsonargparse import ActionConfigFile, ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=explained)
    parser = ArgumentParser(
        prog="train",
        description="Trains a StyleGAN-XL or StyleGAN-T. With --dry-run, says what memory that would need.",
        exit_on_error=False,
    )
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file; later flags win")
    parser.add_class_arguments(TrainConfig, None, as_group=False)
    return parser


def _preset_arguments(arguments: list[str]) -> list[str]:
    """The preset of `--cond` comes first unless a file is given, so that every later setting wins."""
    if any(argument == "--config" or argument.startswith("--config=") for argument in arguments):
        return []
    cond = "class"
    for position, argument in enumerate(arguments):
        if argument.startswith("--cond="):
            cond = argument.removeprefix("--cond=")
        elif argument == "--cond" and position + 1 < len(arguments):
            cond = arguments[position + 1]
    return ["--config", str(preset_path(cond))] if preset_path(cond).exists() else []


def typed_settings(arguments: list[str]) -> dict[str, Any]:
    """The settings on the command line itself, by dotted key, as YAML holds them; ValueError as
    `parse_config`."""
    import yaml
    from jsonargparse import ArgumentError

    parser = _parser()
    try:
        typed = parser.parse_args(long_names(arguments), defaults=False)
    except (ArgumentError, TypeError) as error:
        raise ValueError(_one_sentence(str(error))) from None
    return dict(flat_settings(yaml.safe_load(parser.dump(typed, skip_validation=True)) or {}))


def parse_config(arguments: list[str] | None = None, *, base: str | None = None) -> TrainConfig:
    """Reads flags and YAML (`--config FILE --a.b.c VALUE`); unknown keys and wrong types are ValueErrors.

    Commands (data.allow_pipe) are allowed by what is typed alone, never by a file: files travel.
    Without `--config`, `base` is the start, YAML or the path of a file, or else the small preset of `--cond`
    on embedded data. `--print_config` prints the merged YAML and exits, `--help` and `--help-all` the short
    help or every key.
    """
    from jsonargparse import ArgumentError

    arguments = sys.argv[1:] if arguments is None else arguments
    if not {"-h", "--help"}.isdisjoint(arguments):
        say_lines(HELP.rstrip())
        sys.exit(0)
    arguments = ["--help" if argument == "--help_all" else argument for argument in long_names(arguments)]
    parser = _parser(explained="--help" in arguments)
    try:
        first = _preset_arguments(arguments) if base is None else ["--config", base]
        values = parser.instantiate(parser.parse_args(first + arguments))
        if values.start and base is None:
            values = parser.instantiate(parser.parse_args(_with_start(parser, arguments, values)))
    except (ArgumentError, TypeError) as error:
        raise ValueError(_one_sentence(str(error))) from None
    config = _checked(values)
    allowed = config.data.allow_pipe and bool(_typed(arguments, "--data.allow_pipe"))
    sources = {"--data.source": config.data.source, "--log.track_source": config.log.track_source or ""}
    in_stages = "pipe:" in repr(config.stages)
    allowed = allowed or (_are_typed_commands(sources, arguments) and not in_stages)
    return replace(config, data=replace(config.data, allow_pipe=allowed))


def _with_start(parser: Any, arguments: list[str], values: Any) -> list[str]:
    """The arguments with the settings that follow from the start, or from the run where it is resumed.

    These come after the preset, and after the files where the start is typed; what is typed wins, and so
    does a file that names the start itself.
    """
    from sgxl_t.training.start.follow import Beginning, followed, resumed
    from sgxl_t.training.start.origin import find_origin

    files, typed = _split_files(arguments)
    named = {flag[2:].partition("=")[0] for flag in typed if flag.startswith("--")}
    config, start = _unchecked(values), str(values.start)
    settings = resumed(config.folder(), tuned=not files)
    if settings is None and not files and "cond" not in named and (cond := find_origin(start).cond):
        typed = [*typed, f"--cond={cond}"]
        config = _unchecked(parser.instantiate(parser.parse_args([*_preset_arguments(typed), *typed])))
        settings = resumed(config.folder(), tuned=True)
    if settings is None:
        settings = followed(Beginning(start, config.cond, config.data.source, named, tuned=not files))
    following = [
        f"--{key}={json.dumps(value) if not isinstance(value, str) else value}"
        for key, value in settings.items()
        if key not in named
    ]
    if "start" not in named:
        return [*following, *arguments]
    return [
        *(files or _preset_arguments([f"--cond={settings.get('cond', config.cond)}"])),
        *following,
        *typed,
    ]


def _split_files(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments `--config FILE`, and all others."""
    files: list[str] = []
    typed: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--config":
            files += [argument, *islice(rest, 1)]
        else:
            (files if argument.startswith("--config=") else typed).append(argument)
    return files, typed


def _are_typed_commands(sources: Mapping[str, str], arguments: list[str]) -> bool:
    """Whether there are commands among the sources by flag, and all of them stand on the command line."""
    commands = {name: source for name, source in sources.items() if "pipe:" in source}
    return bool(commands) and all(source in _typed(arguments, name) for name, source in commands.items())


def _typed(arguments: list[str], name: str) -> list[str]:
    """The values of a flag on the command line itself."""
    joined = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{name}=")]
    return joined + [value for flag, value in pairwise(arguments) if flag == name]


def config_from_dict(values: dict[str, Any]) -> TrainConfig:
    """Inverse of `TrainConfig.to_dict`; unknown keys and wrong types are ValueErrors that name the key."""
    from jsonargparse import ArgumentError

    parser = _parser()
    try:
        parsed = parser.instantiate(parser.parse_object(values))
    except (ArgumentError, TypeError) as error:
        raise ValueError(_one_sentence(str(error))) from None
    return _checked(parsed)


def _unchecked(values: Any) -> TrainConfig:
    return TrainConfig(**{name: getattr(values, name) for name in TrainConfig.__dataclass_fields__})


def _checked(values: Any) -> TrainConfig:
    config = _unchecked(values)
    config.check()
    return config


def _one_sentence(message: str) -> str:
    return f"the configuration is not valid: {plain_words(message)}; --print_config shows every key"


def write_config(values: dict[str, Any], path: Path) -> None:
    """Writes what `TrainConfig.to_dict` gives so that `--config PATH` repeats the run."""
    import yaml

    path.write_text(yaml.safe_dump(values, sort_keys=False))
