import subprocess
import sys
from importlib.util import find_spec

import click
import pytest

from sgxl_t.cli.errors import run
from sgxl_t.cli.main import COMMANDS, main


def call(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    printed = capsys.readouterr()
    return left.value.code, printed.out, printed.err


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from sgxl_t.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'numpy', 'PIL', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    for name, (_, line) in COMMANDS.items():
        assert name in done.stdout
        assert line in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_module_and_help(capsys, name):
    assert find_spec(COMMANDS[name][0]), name
    code, out, _ = call(capsys, name, "--help")
    assert code == 0
    assert "usage" in out.lower()


def test_no_command_shows_the_help(capsys):
    assert call(capsys)[:2] == call(capsys, "--help")[:2]
    assert call(capsys, "--version")[1] == "sgxl-t, version 0.1.0\n"


@pytest.mark.parametrize("arguments", [["smaple"], ["--nothing"], ["sample", "--psi", "much"], ["info"]])
def test_wrong_words_are_one_sentence_and_exit_2(capsys, arguments):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("sgxl-t: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["smaple"], "there is no command smaple, did you mean sample?; sgxl-t --help lists them all"),
        (["\x1b[31m"], "there is no command \\x1b[31m; sgxl-t --help lists them all"),
        (["--versoin"], "there is no option --versoin, did you mean --version?; sgxl-t --help"),
        (["sample", "--seds", "3"], "no option --seds, did you mean --seeds?; sgxl-t sample --help lists"),
        (["sample", "--zzzzz"], "there is no option --zzzzz; sgxl-t sample --help lists them all"),
        (["features", "trian"], "there is no command trian, did you mean train?; sgxl-t features --help"),
    ],
)
def test_mistyped_commands_and_options_are_told_the_nearest(capsys, arguments, sentence):
    code, _, err = call(capsys, *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("sgxl-t: ")
    assert sentence in err


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ValueError("two\nlines"), 2, "sgxl-t: two lines\n"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), 2, "a.txt: No such file"),
        (PermissionError(13, "Permission denied", "/x"), 2, "/x: Permission denied"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (click.UsageError("what?"), 2, "sgxl-t: what?\n"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_end_in_their_code_and_one_sentence(capsys, error, code, sentence):
    def command():
        raise error

    assert run(command) == code
    assert sentence in capsys.readouterr().err


def test_our_own_bugs_are_not_dressed_up_as_mistakes():
    for bug in (ZeroDivisionError, RuntimeError):

        def command(bug=bug):
            raise bug("shape")

        with pytest.raises(bug):
            run(command)
