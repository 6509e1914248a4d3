"""Short names of the training command, the short help, and what mistyped names are taken for."""

import re
import shlex

import pytest

from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.config.short_names import HELP, SHORT


def parse(line):
    return parse_config(shlex.split(line))


def test_short_names_are_their_long_ones():
    short = parse("--data d --resolution 64 --kimg=7 --minutes 3 --out runs/a")
    assert short == parse(
        "--data.source d --generator.img_resolution 64 --schedule.kimg 7 --schedule.max_minutes 3 "
        "--run-dir runs/a"
    )
    assert (short.data.source, short.generator.img_resolution) == ("d", 64)
    assert (short.schedule.kimg, short.schedule.max_minutes, short.run_dir) == (7, 3, "runs/a")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--kimg 3 --schedule.kimg=4", "--kimg 3 and --schedule.kimg 4"),
        ("--out a --run-dir b", "--out a and --run_dir b"),
        ("--max-minutes 1 --minutes 2", "--max-minutes 1 and --minutes 2"),
        (
            "--generator.img-resolution 16 --resolution 32",
            "--generator.img_resolution 16 and --resolution 32",
        ),
    ],
)
def test_two_names_of_a_setting_with_different_values_are_refused(arguments, names):
    with pytest.raises(ValueError, match=f"{re.escape(names)} are the same setting"):
        parse(arguments)


def test_two_names_with_one_value_and_one_name_twice_are_fine():
    assert parse("--kimg 3 --schedule.kimg 3").schedule.kimg == 3
    assert parse("--kimg 3 --kimg 4").schedule.kimg == 4


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--generator.img_resolutoin", "generator.img_resolution"),
        ("--gen.img_resolution", "generator.img_resolution"),
        ("--resoluton", "resolution"),
        ("--kim", "kimg"),
        ("--sorce", "data.source"),
        ("--nonsense", None),
    ],
)
def test_a_mistyped_setting_is_told_the_nearest(typed, meant):
    with pytest.raises(ValueError, match=f"there is no setting {typed[2:]}") as caught:
        parse_config([typed, "3"])
    assert ("did you mean" in str(caught.value)) == (meant is not None)
    assert meant is None or f", did you mean {meant}?" in str(caught.value)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_fits_on_a_screen_and_names_what_is_short(flag, capsys):
    with pytest.raises(SystemExit) as left:
        parse_config(["--cond", "none", flag])
    shown = capsys.readouterr().out
    assert (left.value.code or 0, shown) == (0, HELP)
    assert len(shown.splitlines()) <= 40
    assert max(map(len, shown.splitlines())) <= 100
    for short, long in SHORT.items():
        assert short in shown
        assert f"({long})" in shown


def test_the_examples_of_the_help_are_configurations():
    examples = re.findall(r"^  sgxl-t train (.*)$", HELP, re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        parse(example)
