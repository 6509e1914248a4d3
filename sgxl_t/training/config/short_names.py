"""Short names of the settings that are typed most, and the short help that shows them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

SHORT = {
    "--data": "--data.source",
    "--resolution": "--generator.img_resolution",
    "--kimg": "--schedule.kimg",
    "--minutes": "--schedule.max_minutes",
    "--max-minutes": "--schedule.max_minutes",
    "--out": "--run_dir",
}

HELP = """\
Usage: sgxl-t train [--cond class|text|none] [--config FILE] [SETTING VALUE]...

Trains a StyleGAN-XL or StyleGAN-T on one process; on several, start the same settings by
accelerate launch scripts/train.py. The same command again resumes. Ctrl-C saves and stops.

  --data D                folder, .zip or .tar shards: all settings are chosen for these pictures
                          and this machine; or digits, emoji-scenes, emoji-worlds (--data.source)
  --cond class|text|none  what the images are made from; of embedded data each has a small preset
  --config FILE           settings from YAML instead of chosen ones; settings on the line win
  --resolution R          side of the images in pixels (--generator.img_resolution)
  --kimg N                length of the run in thousands of images (--schedule.kimg)
  --minutes N             time that a chosen run has in all, 60 if not given; others save and stop
                          after so long, also --max-minutes (--schedule.max_minutes)
  --out DIR               folder of the run (--run_dir)
  --start X               begin from a run, a model folder, demo_text or a Hub id
  --features F            local, pretrained or auto: networks that the run trains itself, or
                          published ones; auto takes published ones where they can be had
  --dry-run               say what memory the run would need, and train nothing
  --print_config          print all settings as YAML, and train nothing
  --help-all              the whole tree: every setting as --a.b.c VALUE, explained

Examples:
  sgxl-t train --data photos --minutes 60
  sgxl-t train --data photos --cond none --resolution 64 --kimg 500
  sgxl-t train --config configs/class/digits.yaml --out runs/digits --batch.images 32

Settings and their groups: configs/README.md. Runs, stages, several processes: docs/training.md.
"""


def long_names(arguments: Sequence[str]) -> list[str]:
    """The arguments with long names for short ones, and `--run-dir` as `--run_dir`; values stay as they are.

    ValueError where two names of one setting have different values.
    """
    _refuse_contradictions(arguments)
    return [_long(argument) for argument in arguments]


def _long(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    name = SHORT.get(name, name)
    return "--" + name[2:].replace("-", "_") + equals + value


def _refuse_contradictions(arguments: Sequence[str]) -> None:
    given: dict[str, dict[str, str]] = defaultdict(dict)  # values by long name and by the name as typed
    for argument, following in pairwise([*arguments, ""]):
        typed, equals, value = argument.partition("=")
        if (name := _long(typed)) in SHORT.values():
            typed = typed if typed in SHORT else name
            given[name][typed] = value if equals else following
    for values in given.values():
        if len(set(values.values())) > 1:
            shown = " and ".join(f"{typed} {value}" for typed, value in values.items())
            raise ValueError(f"{shown} are the same setting with different values: give one of them")
