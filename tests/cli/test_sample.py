import functools
import json
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image
from test_main import call
from tiny_models import tiny_folder

from sgxl_t.cli import sample


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_prompt_seeds_and_grid(capsys, models, tmp_path):
    arguments = [
        "sample",
        "a red fox in snow",
        "--model",
        models["text"],
        "--seeds",
        "0-7",
        "--grid",
        "fox.png",
    ]
    code, out, _ = call(capsys, *arguments)
    assert (code, out) == (0, "wrote fox.png\n")
    assert names(tmp_path) == ["fox.png"]
    first = (tmp_path / "fox.png").read_bytes()
    assert call(capsys, *arguments)[0] == 0
    assert (tmp_path / "fox.png").read_bytes() == first, "the same seeds give the same bytes"
    assert Image.open("fox.png").width > 8 * 96


def test_one_file_per_picture_named_by_prompt_and_seed(capsys, models, tmp_path):
    (tmp_path / "more.txt").write_text("a small dog\na red fox\n")
    arguments = [
        "a red fox",
        "--prompts",
        "more.txt",
        "--seeds",
        "1,12",
        "--psi",
        "0.7",
        "--out",
        "deep/pics",
    ]
    code, out, _ = call(capsys, "sample", *arguments, "--model", models["text"], "--json")
    files = [
        "a-red-fox-seed0001.png",
        "a-red-fox-seed0012.png",
        "a-small-dog-seed0001.png",
        "a-small-dog-seed0012.png",
    ]
    assert code == 0
    assert names(tmp_path / "deep" / "pics") == files
    written = json.loads(out)
    assert [entry["file"] for entry in written["pictures"]] == [f"deep/pics/{name}" for name in files]
    assert written["pictures"][3] == {"file": f"deep/pics/{files[3]}", "condition": "a small dog", "seed": 12}
    assert written["grid"] is None


def test_classes_by_name_number_and_range(capsys, models, tmp_path):
    wanted = ["--class", "fox", "--class", "2-3", "--class", "0", "--batch-size", "2", "--cutoff", "2"]
    assert call(capsys, "sample", "--model", models["class"], *wanted, "--precision", "bf16")[0] == 0
    assert names(tmp_path / "samples") == ["car-seed0000.png", "fox-seed0000.png", "goldfish-seed0000.png"]


def test_sheet_without_a_class_shows_all_of_them_in_pages(capsys, models, tmp_path):
    arguments = ["--sheet", "all.png", "--sheet-rows", "3", "--seeds", "0-2", "--json"]
    code, out, _ = call(capsys, "sample", "--model", models["class"], *arguments)
    assert code == 0
    assert json.loads(out) == {"pictures": [], "grid": None, "sheet": ["all-1.png", "all-2.png"]}
    assert names(tmp_path) == ["all-1.png", "all-2.png"]
    assert Image.open("all-1.png").height > 3 * 96 > Image.open("all-2.png").height


def test_sheet_grid_and_files_show_the_same_pictures(capsys, models, tmp_path):
    wanted = [
        "--class",
        "0-1",
        "--seeds",
        "0,5",
        "--out",
        "out",
        "--grid",
        "grid.png",
        "--sheet",
        "sheet.png",
    ]
    code, out, _ = call(capsys, "sample", "--model", models["class"], *wanted, "--sheet", "sheet.png")
    assert (code, out) == (0, "wrote out/fox-seed0000.png and 3 more\nwrote grid.png\nwrote sheet.png\n")
    single = Image.open("out/dog-seed0005.png").resize((96, 96), Image.Resampling.NEAREST)
    for name in ("grid.png", "sheet.png"):
        page = Image.open(name)
        # The last cell ends one gap and one margin before the right edge and the lower edge.
        right, lower = page.width - 12, page.height - 12
        assert page.crop((right - 96, lower - 96, right, lower)).tobytes() == single.tobytes()


def test_unconditional_model_needs_no_words(capsys, models, tmp_path):
    assert call(capsys, "sample", "--model", models["none"], "--seeds", "3", "--device", "cpu")[0] == 0
    assert names(tmp_path / "samples") == ["picture-seed0003.png"]


def test_words_the_encoder_never_saw_are_named(capsys, models):
    code, _, err = call(capsys, "sample", "a red zeppelin", "--model", models["text"])
    assert code == 0
    assert "does not know: zeppelin" in err


MISTAKES = {
    "seeds backwards": (["fox", "--seeds", "5-2"], "runs backwards: write 2-5"),
    "seeds junk": (["fox", "--seeds", "abc"], "cannot be read"),
    "psi nan": (["fox", "--psi", "nan"], "psi=nan is no number"),
    "psi inf": (["fox", "--psi", "inf"], "psi=inf is no number"),
    "no prompt": ([], "there is no prompt"),
    "empty prompt": ([" "], "a prompt is empty"),
    "class for a text model": (["--class", "fox"], "needs a class model"),
    "no prompt file": (["--prompts", "none.txt"], "none.txt is no file"),
    "no batch": (["fox", "--batch-size", "0"], "batch_size=0"),
    "no device": (["fox", "--device", "abacus"], "'abacus' is not available"),
    "no precision": (["fox", "--precision", "fp8"], "fp8"),
    "no folder": (["fox", "--out", "/proc/none/out"], "cannot be written"),
    "grid in no folder": (["fox", "--grid", "/proc/none/fox.png"], "cannot be written"),
    "sheet of another format": (["fox", "--sheet", "fox.jpg"], "does not end in .png"),
    "sheet without rows": (["fox", "--sheet", "fox.png", "--sheet-rows", "0"], "use at least 1"),
    "no model": (["fox", "--model", "./nowhere"], "is no folder"),
    "too many seeds": (["fox", "--seeds", "0-999999"], "more than 100000"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence_exit_2_and_nothing_is_written(capsys, models, tmp_path, mistake):
    arguments, sentence = MISTAKES[mistake]
    model = [] if "--model" in arguments else ["--model", models["text"]]
    code, out, err = call(capsys, "sample", *arguments, *model)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--class", "foxx"], "there is no class 'foxx': did you mean fox?"),
        (["--class", "goldfish, Carasius auratus"], "did you mean"),
        (["--class", "9"], "class 9 does not exist: the model has 4 classes, 0 to 3"),
        (["fox"], "use --class"),
        ([], "none is named: choose from 0 fox"),
    ],
)
def test_class_models_explain_what_to_ask_for(capsys, models, tmp_path, arguments, sentence):
    code, _, err = call(capsys, "sample", "--model", models["class"], *arguments)
    assert code == 2
    assert sentence in err
    assert names(tmp_path) == []


def test_out_that_is_a_file_is_refused_and_kept(capsys, models, tmp_path):
    (tmp_path / "out").write_text("mine")
    code, _, err = call(capsys, "sample", "fox", "--model", models["text"], "--out", "out")
    assert code == 2
    assert "cannot be written" in err
    assert (tmp_path / "out").read_text() == "mine"


def test_damaged_model_is_one_sentence(capsys, models, tmp_path):
    folder = tiny_folder(tmp_path / "m", "text")
    weights = folder / "generator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    code, _, err = call(capsys, "sample", "fox", "--model", str(folder))
    assert code == 2
    assert "truncated" in err
    assert err.count("\n") == 1


def test_without_model_the_one_of_the_package_is_used_or_missed_in_one_sentence(capsys, models, monkeypatch):
    monkeypatch.setattr(sample, "DEMO_MODEL", "no_such_model")
    code, _, err = call(capsys, "sample", "a red fox")
    assert code == 2
    assert "ships no demo model: name a model with --model" in err


def test_interrupt_leaves_whole_pictures_only(models, tmp_path):
    command = [sys.executable, "-m", "sgxl_t.cli.main", "sample", "fox", "--model", models["text"]]
    command += ["--seeds", "0-99999", "--batch-size", "1"]
    # A suite in the background may have inherited an ignored SIGINT; a terminal's commands have not.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=listen)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("samples/fox-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert "Traceback" not in err
    written = list((tmp_path / "samples").iterdir())
    assert written
    for path in written:
        assert path.name.startswith("fox-seed")
        Image.open(path).load()
