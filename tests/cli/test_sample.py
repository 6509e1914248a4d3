import functools
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from test_main import call
from tiny_clips import tiny_whole_clip
from tiny_models import tiny_folder

from sgxl_t.model_io import named_model


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
        "a-red-fox-seed0001-psi0.7.png",
        "a-red-fox-seed0012-psi0.7.png",
        "a-small-dog-seed0001-psi0.7.png",
        "a-small-dog-seed0012-psi0.7.png",
    ]
    assert code == 0
    assert names(tmp_path / "deep" / "pics") == files
    written = json.loads(out)
    assert [entry["file"] for entry in written["pictures"]] == [f"deep/pics/{name}" for name in files]
    last = {"file": f"deep/pics/{files[3]}", "condition": "a small dog", "seed": 12, "psi": 0.7}
    assert written["pictures"][3] == last
    assert written["grid"] is None


def test_classes_by_name_number_and_range(capsys, models, tmp_path):
    wanted = ["--class", "fox", "--class", "2-3", "--class", "0", "--batch-size", "2", "--cutoff", "2"]
    assert call(capsys, "sample", "--model", models["class"], *wanted, "--precision", "bf16")[0] == 0
    assert names(tmp_path / "samples") == [f"{name}-seed0000-bf16.png" for name in ("car", "fox", "goldfish")]


def test_a_picture_never_replaces_another_one_in_a_folder(capsys, models, tmp_path):
    asked = ["sample", "--class", "3", "--model", models["class"], "--out", "o"]
    for options in (
        [],
        ["--psi", "0.3"],
        ["--psi", "0.3", "--truncation", "global"],
        ["--psi", "0.3", "--cutoff", "1"],
    ):
        assert call(capsys, *asked, *options)[0] == 0
    files = ["car-seed0000" + end + ".png" for end in ("-psi0.3-first1", "-psi0.3-global", "-psi0.3", "")]
    assert names(tmp_path / "o") == sorted(files)
    before = (tmp_path / "o" / "car-seed0000.png").read_bytes()
    assert call(capsys, *asked)[::2] == (0, ""), "the same picture once more is the same file"
    assert names(tmp_path / "o") == sorted(files)
    assert (tmp_path / "o" / "car-seed0000.png").read_bytes() == before
    Image.new("RGB", (4, 4)).save(tmp_path / "o" / "car-seed0000.png")
    code, out, err = call(capsys, *asked)
    assert (code, out) == (2, "")
    assert "o/car-seed0000.png is there already, with nothing in it that says what it was made from" in err
    assert Image.open(tmp_path / "o" / "car-seed0000.png").size == (4, 4)
    assert call(capsys, *asked, "--overwrite")[0] == 0
    assert (tmp_path / "o" / "car-seed0000.png").read_bytes() == before


def test_pictures_of_another_model_are_not_replaced(capsys, models, tmp_path):
    other = tiny_folder(tmp_path / "other", "class", "sgxl-tiny-16")
    asked = [
        "sample",
        "--class",
        "0-2",
        "--out",
        "o",
        "--grid",
        "g.png",
        "--sheet",
        "s.png",
        "--sheet-rows",
        "2",
    ]
    assert call(capsys, *asked, "--model", models["class"])[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert len(before) == 6
    code, out, err = call(capsys, *asked, "--model", str(other))
    assert (code, out) == (2, "")
    assert (
        "is there already, drawn by another model, as 5 more are: name another place, or add --overw" in err
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before, "nothing was drawn"
    assert call(capsys, *asked, "--model", models["class"])[0] == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before
    assert call(capsys, *asked, "--model", str(other), "--overwrite")[0] == 0
    assert all(path.read_bytes() != content for path, content in before.items())


def test_a_single_picture_goes_into_the_file_that_out_names(capsys, models, tmp_path):
    asked = ["sample", "a fox", "--model", models["text"], "--out", "deep/x.png"]
    for _ in range(2):
        assert call(capsys, *asked) == (0, "wrote deep/x.png\n", "")
    assert Image.open("deep/x.png").format == "PNG"
    code, _, err = call(capsys, *asked, "--psi", "0.5")
    assert code == 2
    assert "deep/x.png is there already, drawn from something else (psi 1.0): name another place" in err


@pytest.mark.parametrize("texts", [("a fox, red", "a fox red"), ("a Fox", "a fox"), ("a fox?", "a fox!")])
def test_prompts_that_names_cannot_tell_apart_get_names_of_their_own(capsys, models, tmp_path, texts):
    for text in texts:
        assert call(capsys, "sample", text, "--model", models["text"], "--precision", "bf16")[0] == 0
    assert len(names(tmp_path / "samples")) == 2
    assert all("-bf16.png" in name for name in names(tmp_path / "samples"))


def test_files_of_the_best_of_several_are_those_of_their_seeds(capsys, models, tmp_path):
    tiny_whole_clip().save(tmp_path / "clip")
    asked = ["sample", "a fox", "--model", models["text"], "--out", "o"]
    best = ["--seeds", "1", "--best-of", "4", "--clip", "local:clip"]
    assert call(capsys, *asked, "--seeds", "4-7")[0] == 0
    assert call(capsys, *asked, *best)[0] == 0, "the best of these is one of these"
    assert len(names(tmp_path / "o")) == 4
    Image.new("RGB", (4, 4)).save(tmp_path / "o" / "a-fox-seed0006.png")
    code, out, err = call(capsys, *asked, *best)
    assert (code, out) == (2, ""), "before it is known which one is the best"
    assert "a-fox-seed0006.png is there already" in err


def test_another_precision_and_a_mix_are_in_the_name(capsys, models, tmp_path):
    asked = ["sample", "a fox", "--model", models["text"]]
    for more in (
        [],
        ["--precision", "bf16"],
        ["--mix", "a dog", "--layers", "1"],
        ["--mix", "a cat", "--layers", "1"],
    ):
        assert call(capsys, *asked, *more)[0] == 0
    assert len(names(tmp_path / "samples")) == 4


def test_words_beyond_the_context_are_named(capsys, models, tmp_path):
    words = "a " * 10 + "red fox in snow"
    for command in (["sample", words], ["interpolate", words, words + " at night", "--frames", "0"]):
        code, _, err = call(capsys, *command, "--model", models["text"])
        assert code == 0
        assert 'note: only the first 10 words of "a a a a a a a a a a red fox in snow" were read,' in err
        assert 'which is the context of 12 tokens; not read: "red fox in snow' in err
    code, _, err = call(capsys, "sample", "a fox", "--mix", words, "--layers", "1", "--model", models["text"])
    assert 'not read: "red fox in snow"' in err
    (tmp_path / "p.txt").write_text("".join(f"{'a ' * 10}fox {number}\n" for number in range(5)))
    _, _, err = call(capsys, "sample", "--prompts", "p.txt", "--model", models["text"])
    assert err.count("not read:") == 3
    assert err.endswith("note: 2 more prompts are longer than that context and were cut\n")
    assert "not read" not in call(capsys, "sample", "a red fox", "--model", models["text"])[2]


@pytest.mark.parametrize("words", [["a fox"], ["--class", "3"], ["--prompts", "p.txt"]])
def test_a_model_without_condition_says_what_it_takes_instead(capsys, tmp_path, words):
    (tmp_path / "p.txt").write_text("a fox\n")
    folder = tiny_folder(tmp_path / "m", "none")
    code, _, err = call(capsys, "sample", *words, "--model", str(folder))
    assert code == 2
    assert "has no condition: it draws what it was trained on, so leave prompts and classes out" in err
    assert "prompt instead" not in err


def test_sheet_without_a_class_shows_all_of_them_in_pages(capsys, models, tmp_path):
    arguments = ["--sheet", "all.png", "--sheet-rows", "3", "--seeds", "0-2", "--json"]
    code, out, _ = call(capsys, "sample", "--model", models["class"], *arguments)
    assert code == 0
    assert json.loads(out) == {
        "pictures": [],
        "grid": None,
        "sheet": ["all-1.png", "all-2.png"],
    }
    assert names(tmp_path) == ["all-1.png", "all-2.png"]
    assert Image.open("all-1.png").height > 3 * 96 > Image.open("all-2.png").height


def test_a_long_row_becomes_a_sheet_with_a_title_over_every_picture(capsys, models, tmp_path):
    arguments = ["sample", "a fox", "--model", models["text"], "--seeds", "0-11", "--grid", "g.png"]
    assert call(capsys, *arguments, "--out", "o")[0] == 0
    sheet = np.asarray(Image.open("g.png"))
    assert sheet.shape[:2] == (8 * 2 + 3 * (96 + 4 + 8 + 14), sheet.shape[1])
    assert sheet.shape[1] < 4 * (96 + 4) + 100
    left = sheet.shape[1] - 8 - 4 * (96 + 4)
    for number in range(12):
        x, y = left + number % 4 * 100, 8 + number // 4 * 122
        assert (sheet[y : y + 14, x : x + 96] < 128).any(), "its seed"
        picture = np.asarray(Image.open(f"o/a-fox-seed{number:04d}.png"))
        assert np.array_equal(sheet[y + 22 : y + 118 : 6, x : x + 96 : 6], picture)
    assert call(capsys, *arguments)[0] == 0, "the same again"
    code, _, err = call(capsys, *arguments[:5], "0-12", *arguments[6:])
    assert (code, "--overwrite" in err) == (2, True)


def test_long_rows_of_a_sheet_wrap_and_lines_fill_its_pages(capsys, models, tmp_path):
    arguments = ["sample", "a fox", "--model", models["text"], "--seeds", "0-11", "--out", "o"]
    arguments += ["--sheet", "s.png", "--sheet-rows", "2"]
    assert call(capsys, *arguments)[0] == 0
    first, second = (Image.open(name) for name in ("s-1.png", "s-2.png"))
    assert (first.height, second.height) == (8 * 2 + 2 * 122, 8 * 2 + 122)
    left = first.width - 8 - 4 * 100
    for number in range(12):
        page, line = (second, 0) if number > 7 else (first, number // 4)
        x, y = left + number % 4 * 100, 8 + line * 122 + 22
        picture = enlarged(f"o/a-fox-seed{number:04d}.png")
        assert page.crop((x, y, x + 96, y + 96)).tobytes() == picture.tobytes(), number
    assert call(capsys, *arguments)[0] == 0, "the same again"
    assert "--overwrite" in call(capsys, *arguments[:5], "1-12", *arguments[6:])[2]


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


def cell(page, row, column, rows, columns):
    """One picture out of a grid, counted from the lower right corner, where labels do not move it."""
    right = page.width - 12 - (columns - 1 - column) * 100
    lower = page.height - 12 - (rows - 1 - row) * 100
    return page.crop((right - 96, lower - 96, right, lower))


def enlarged(file):
    return Image.open(file).resize((96, 96), Image.Resampling.NEAREST)


def test_several_psi_are_columns_and_part_of_the_names(capsys, models, tmp_path):
    arguments = ["a fox", "--psi", "0.3,1", "--seeds", "4", "--grid", "g.png", "--out", "o"]
    assert call(capsys, "sample", *arguments, "--model", models["text"])[0] == 0
    assert names(tmp_path / "o") == ["a-fox-seed0004-psi0.3.png", "a-fox-seed0004.png"]
    low, high = (enlarged(tmp_path / "o" / name).tobytes() for name in names(tmp_path / "o"))
    page = Image.open("g.png")
    assert [cell(page, 0, column, 1, 2).tobytes() for column in (0, 1)] == [low, high]
    assert low != high


def test_a_line_of_the_prompt_file_may_have_its_own_psi_and_seed(capsys, models, tmp_path):
    (tmp_path / "p.txt").write_text("a fox\na dog | psi=0.2\na car | seed=9 | psi=0.5\n")
    arguments = ["--prompts", "p.txt", "--seeds", "0,1", "--out", "o", "--grid", "g.png", "--json"]
    code, out, _ = call(capsys, "sample", *arguments, "--model", models["text"])
    assert code == 0
    made = [(one["condition"], one["seed"], one["psi"]) for one in json.loads(out)["pictures"]]
    assert made == [
        ("a fox", 0, 1.0),
        ("a fox", 1, 1.0),
        ("a dog", 0, 0.2),
        ("a dog", 1, 0.2),
        ("a car", 9, 0.5),
    ]
    page = Image.open("g.png")
    assert cell(page, 2, 0, 3, 2).tobytes() == enlarged("o/a-car-seed0009-psi0.5.png").tobytes()
    assert set(cell(page, 2, 1, 3, 2).tobytes()) == {255}, "the shorter row ends in a gap"
    assert (
        call(capsys, "sample", "a dog", "--psi", "0.2", "--model", models["text"], "--out", "alone")[0] == 0
    )
    ours, alone = (
        Image.open(file) for file in ("o/a-dog-seed0000-psi0.2.png", "alone/a-dog-seed0000-psi0.2.png")
    )
    assert np.abs(np.asarray(ours).astype(int) - np.asarray(alone)).max() <= 1


def test_a_prompt_file_may_hold_classes(capsys, models, tmp_path):
    (tmp_path / "c.txt").write_text("fox | psi=0.5\n2-3\n")
    assert call(capsys, "sample", "--prompts", "c.txt", "--model", models["class"])[0] == 0
    assert names(tmp_path / "samples") == [
        "car-seed0000.png",
        "fox-seed0000-psi0.5.png",
        "goldfish-seed0000.png",
    ]


@pytest.mark.parametrize(("kind", "words"), [("text", ["a fox", "a dog"]), ("class", ["fox", "dog"])])
def test_mixing_takes_layers_of_another_prompt_or_class(capsys, models, tmp_path, kind, words):
    first, other = words
    asked = [first] if kind == "text" else ["--class", first]
    arguments = ["sample", *asked, "--mix", other, "--layers", "1-2", "--model", models[kind]]
    assert call(capsys, *arguments)[0] == 0
    stem = first.replace(" ", "-")
    mixed = f"samples/{stem}-mixed-with-{other.replace(' ', '-')}-in-layers-1-2-seed0000.png"
    assert call(capsys, "sample", *asked, "--model", models[kind])[0] == 0
    plain = Image.open(f"samples/{stem}-seed0000.png")
    assert Image.open(mixed).tobytes() != plain.tobytes()


def test_the_best_of_several_is_kept_under_its_own_seed(capsys, models, tmp_path):
    tiny_whole_clip().save(tmp_path / "clip")
    arguments = ["a fox", "--model", models["text"], "--seeds", "1", "--out"]
    best = ["--best-of", "4", "--clip", "local:clip", "--json"]
    code, out, _ = call(capsys, "sample", *arguments, "best", *best)
    assert code == 0
    (chosen,) = json.loads(out)["pictures"]
    assert 4 <= chosen["seed"] < 8
    assert -1 <= chosen["score"] <= 1
    arguments[4] = str(chosen["seed"])
    assert call(capsys, "sample", *arguments, "again")[0] == 0
    again = np.asarray(Image.open(tmp_path / "again" / f"a-fox-seed{chosen['seed']:04d}.png")).astype(int)
    assert np.abs(again - np.asarray(Image.open(chosen["file"]))).max() <= 1


def test_unconditional_model_needs_no_words(capsys, models, tmp_path):
    assert call(capsys, "sample", "--model", models["none"], "--seeds", "3", "--device", "cpu")[0] == 0
    assert names(tmp_path / "samples") == ["picture-seed0003.png"]


def test_words_the_encoder_never_saw_are_named(capsys, models):
    code, _, err = call(capsys, "sample", "a red zeppelin", "--model", models["text"])
    assert code == 0
    assert not err.count("not read")
    assert "no caption that the model learnt from says: zeppelin" in err


@pytest.mark.parametrize("command", ["sample", "interpolate"])
def test_sampling_mode_gives_the_same_files_and_a_line_about_itself(capsys, models, tmp_path, command):
    words = [command, "a red fox", "a blue car", "--model", models["text"], "--device", "cpu"]
    assert call(capsys, *words, "--out", "plain")[0] == 0
    extra = ["--optimize", "--conv", "winograd", "--batch-size", "2"]
    code, out, err = call(capsys, *words, "--out", "fast", *extra, "--json")
    assert code == 0
    assert len(json.loads(out)["pictures"]) == len(names(tmp_path / "fast"))
    assert err.startswith("optimised: ")
    assert err.endswith(" s\n")
    assert names(tmp_path / "fast") == names(tmp_path / "plain")
    for name in names(tmp_path / "fast"):
        made = [np.asarray(Image.open(tmp_path / kind / name)).astype(int) for kind in ("plain", "fast")]
        assert np.abs(made[0] - made[1]).max() <= 1


@pytest.mark.slow
def test_compilation_is_announced_and_its_seconds_are_told(capsys, models):
    words = [
        "sample",
        "a red fox",
        "--model",
        models["text"],
        "--seeds",
        "0-2",
        "--compile",
        "--device",
        "cpu",
    ]
    code, _, err = call(capsys, *words)
    assert code == 0
    told = err.splitlines()  # torch may add lines of its own, such as where it looked for CUDA
    announced = told.index("compiling, which can take minutes ...")
    reported = [n for n, line in enumerate(told) if "synthesis compiled, batches of 3; compiled in " in line]
    assert len(reported) == 1
    assert announced < reported[0]


MISTAKES = {
    "seeds backwards": (["fox", "--seeds", "5-2"], "runs backwards: write 2-5"),
    "seeds junk": (["fox", "--seeds", "abc"], "cannot be read"),
    "psi nan": (["fox", "--psi", "nan"], "psi=nan is out of range"),
    "psi inf": (["fox", "--psi", "inf"], "psi=inf is out of range"),
    "no prompt": ([], "there is no prompt"),
    "empty prompt": ([" "], "a prompt is empty"),
    "class for a text model": (["--class", "fox"], "this model draws from text: say in words what to draw"),
    "no prompt file": (["--prompts", "none.txt"], "none.txt is not a file"),
    "no batch": (["fox", "--batch-size", "0"], "batch_size=0"),
    "batch of words": (["fox", "--batch-size", "many"], "batch_size='many' is not a number"),
    "graphs on a CPU": (["fox", "--cuda-graphs", "--device", "cpu"], "CUDA graphs need an NVIDIA GPU"),
    "triton on a CPU": (["fox", "--filter", "triton", "--device", "cpu"], "filter=triton needs a GPU"),
    "compiled winograd": (["fox", "--compile", "--conv", "winograd", "--device", "cpu"], "not conv=winograd"),
    "no device": (["fox", "--device", "abacus"], "'abacus' is not available"),
    "no precision": (["fox", "--precision", "fp8"], "fp8"),
    "no folder": (["fox", "--out", "/proc/none/out"], "cannot be written"),
    "one file, two pictures": (["fox", "--seeds", "0,1", "--out", "x.png"], "--grid x.png"),
    "file of another format": (["fox", "--out", "x.jpg"], "does not end in .png"),
    "grid in no folder": (["fox", "--grid", "/proc/none/fox.png"], "cannot be written"),
    "sheet of another format": (["fox", "--sheet", "fox.jpg"], "does not end in .png"),
    "sheet without rows": (["fox", "--sheet", "fox.png", "--sheet-rows", "0"], "use at least 1"),
    "no model": (["fox", "--model", "./nowhere"], "is not a folder"),
    "mix without layers": (["fox", "--mix", "a dog"], "--mix and --layers go together"),
    "layers without mix": (["fox", "--layers", "1"], "--mix and --layers go together"),
    "layers junk": (["fox", "--mix", "a dog", "--layers", "high"], "layers 'high' cannot be read"),
    "layers too many": (["fox", "--mix", "a dog", "--layers", "2-99"], "do not fit: the model has 0 to"),
    "best of none": (["fox", "--best-of", "0"], "best_of=0 is out of range"),
    "clip without best-of": (["fox", "--clip", "local:clip"], "has nothing to choose from: add --best-of"),
    "no image tower": (["fox", "--best-of", "2"], "stored without the image tower of its CLIP"),
    "no such clip": (["fox", "--best-of", "2", "--clip", "clip"], "'clip' names no CLIP"),
    "psi of many": (["fox", "--psi", "0.5,x"], "is not a list of numbers"),
    "grid too large": (["fox", "--grid", "g.png", "--seeds", "0-99999"], "ask for fewer at a time"),
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
    monkeypatch.setattr(named_model, "DEMO_MODEL", "no_such_model")
    code, _, err = call(capsys, "sample", "a red fox")
    assert code == 2
    assert "ships no demo model: name a model with --model" in err


def test_classes_without_a_model_are_drawn_by_the_packaged_class_model(capsys, tmp_path):
    code, _, err = call(capsys, "sample", "--class", "fox", "--class", "23", "--out", "things")
    assert code == 0, err
    drawn = names(tmp_path / "things")
    assert [name.split("-")[0] for name in drawn] == ["fox", "rocket"]
    assert Image.open(tmp_path / "things" / drawn[0]).size == (64, 64)
    code, _, err = call(capsys, "sample", "--class", "unicorn")
    assert code == 2
    assert "unicorn" in err


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
