"""Whatever a file says, the terminal shows it and does not obey it."""

import ast
import json
import logging
from pathlib import Path

import pytest
from test_main import call
from tiny_models import tiny_clip, tiny_folder, tiny_model

import sgxl_t
from sgxl_t.cli.errors import run
from sgxl_t.cli.main import LazyGroup
from sgxl_t.files.terminal import VisibleFormatter, say, say_json, say_lines
from sgxl_t.model_io.model_card import model_card
from sgxl_t.training.callbacks.report.page import page, table

ESCAPE = "\x1b]0;PWNED\x07fox\x9b31m\u202e\nsgxl-t: all is well"
PACKAGE = Path(sgxl_t.__file__).parent


def harmless(text):
    """Holds nothing but printable characters and line breaks."""
    return all(char == "\n" or (char.isprintable() and char not in "\u202e") for char in text)


@pytest.fixture
def model(tmp_path):
    """A class model whose every text is an attack."""
    folder = tiny_folder(tmp_path / "m", "class")
    labels = json.loads((folder / "labels.json").read_text())
    labels["names"][0] = ESCAPE
    (folder / "labels.json").write_text(json.dumps(labels))
    config = json.loads((folder / "config.json").read_text())
    config["provenance"] = {"data": ESCAPE, ESCAPE: ESCAPE, "licence": [ESCAPE]}
    config["version"] = ESCAPE
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.json").write_text(json.dumps({ESCAPE: {"value": ESCAPE}}))
    return folder


def test_info_shows_names_provenance_and_metrics(model, capsys):
    code, out, err = call(capsys, "info", str(model))
    assert code == 0
    assert harmless(out + err)
    assert out.count("\\x1b]0;PWNED\\x07fox\\x9b31m\\u202e\\nsgxl-t: all is well") >= 5
    assert "\nsgxl-t:" not in out


def test_json_for_programs_holds_the_same_in_its_own_escapes(model, capsys):
    code, out, _ = call(capsys, "info", str(model), "--json")
    assert code == 0
    assert harmless(out)
    assert json.loads(out)["classes"][0] == ESCAPE


@pytest.mark.parametrize("asked", [["--class", "nope"], ["--class", ESCAPE + "x"], ["--class", "9"]])
def test_sentences_about_a_wrong_class_are_one_line(model, asked, capsys, tmp_path):
    code, out, err = call(capsys, "sample", "--model", str(model), "--out", str(tmp_path / "o"), *asked)
    assert (code, out) == (2, "")
    assert harmless(err)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "command", ["info", "sample", "features inspect", "features list", "evaluate", "prepare"]
)
def test_names_of_files_and_values_in_errors(command, capsys, tmp_path):
    folder = tmp_path / "\x1b[31m\x9bred"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"format": 1, "kind": ESCAPE, ESCAPE: ESCAPE}))
    arguments = {"sample": ["--model", str(folder)], "evaluate": [str(folder), "--data", str(folder)]}
    given = arguments.get(command, [str(folder)]) + (["x.zip"] if command == "prepare" else [])
    code, out, err = call(capsys, *command.split(), *given)
    assert code == (0 if command in ("features list", "info") else 2)
    assert harmless(out + err)


def test_a_vocabulary_and_tensors_with_bad_names(capsys, tmp_path):
    from safetensors.torch import load_file, save_file

    tiny_clip().save_text(tmp_path / "clip")
    weights = tmp_path / "clip" / "model.safetensors"
    save_file({**load_file(weights), ESCAPE: load_file(weights)["ln_final.bias"]}, weights)
    code, _, err = call(capsys, "features", "inspect", str(tmp_path / "clip"))
    assert code == 2
    assert harmless(err)
    assert "unexpected: \\x1b]0;PWNED" in err


def test_lines_of_a_log_show_what_they_hold(capsys):
    record = logging.LogRecord("sgxl_t", logging.INFO, "", 0, "caption %s", (ESCAPE,), None)
    formatted = VisibleFormatter("%(asctime)s %(message)s").format(record)
    assert harmless(formatted)
    assert "\n" not in formatted
    try:
        raise ValueError(ESCAPE)
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    traced = VisibleFormatter("%(message)s").format(record)
    assert harmless(traced)
    assert traced.count("\n") > 2


def test_warnings_of_commands_without_a_log_are_shown_safely(capsys):
    call(capsys, "info", "--help")
    logging.getLogger("sgxl_t.some.part").warning("name %s", "\x1b[2J")
    assert "name \\x1b[2J" in logging.lastResort.format(
        logging.LogRecord("a", logging.WARNING, "", 0, "name %s", ("\x1b[2J",), None)
    )


def test_what_is_said_is_one_line_and_lines_are_lines(capsys):
    say("a\nb\x1b")
    say_lines("a\nb\x1b")
    say_json({"a": "b\x7f\u2028\n"})
    out = capsys.readouterr().out
    assert out == 'a\\nb\\x1b\na\nb\\x1b\n{\n  "a": "b\\u007f\\u2028\\n"\n}\n'


def _prints(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func
            if isinstance(name, ast.Name) and name.id == "print":
                yield node
            if isinstance(name, ast.Attribute) and name.attr in ("echo", "secho"):
                yield node


@pytest.mark.parametrize(
    "path",
    [
        path
        for room in ("cli", "training", "networks", "conditioning")
        for path in (PACKAGE / room).rglob("*.py")
    ],
)
def test_nothing_is_printed_but_through_one_place(path):
    found = [node.lineno for node in _prints(ast.parse(path.read_text(encoding="utf-8")))]
    assert not found, f"{path.name} prints by itself in lines {found}: use sgxl_t.files.terminal"


def test_cards_and_reports_hold_text_and_no_html():
    attack = "<script>alert(1)</script> ![x](http://a/b) [y](javascript:z) `c` | \x1b[31m"
    generator, condition = tiny_model("none")
    facts = {"data": attack, attack: attack, "licence": ""}
    card = model_card(attack, generator.config, condition.spec, 5, facts, {attack: {"value": attack}})
    assert "<script" not in card
    assert "](" not in card.replace("\\]", "")
    assert "\x1b" not in card
    assert "license: other" in card
    shown = page(attack, [(attack, table([(attack, 1.0)], (attack, "b")))])
    assert "<script>alert" not in shown


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device", "/x"), "so make room"),
        (OSError(24, "Too many open files", "/x"), "ulimit -n"),
        (OSError(36, "File name too long", "/x"), "use a shorter name"),
        (OSError(40, "Too many levels of symbolic links", "/x"), "links lead in a circle"),
        (PermissionError(13, "Permission denied", "/x"), "check the path and its permissions"),
        (MemoryError(), "close other programs, or use a machine with more"),
    ],
)
def test_advice_fits_the_cause(error, sentence, capsys):
    def command():
        raise error

    assert run(command) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "--batch-size" not in said


@pytest.mark.parametrize(
    ("name", "batches"), [("sample", True), ("interpolate", True), ("info", False), ("prepare", False)]
)
def test_a_smaller_batch_is_advised_only_where_there_are_batches(name, batches, capsys, monkeypatch):
    import click

    real = LazyGroup.get_command

    def failing(self, ctx, cmd_name):
        command = real(self, ctx, cmd_name)
        params = [
            click.Option([one.name, *one.opts], hidden=True)
            for one in command.params
            if isinstance(one, click.Option)
        ]

        def fails(**_):
            raise MemoryError

        return click.Command(cmd_name, params=params, callback=fails)

    monkeypatch.setattr(LazyGroup, "get_command", failing)
    code, _, err = call(capsys, name)
    assert code == 2
    assert ("--batch-size" in err) == batches
    assert "not enough memory" in err
