import json
import shutil

import numpy as np
import pytest
from PIL import Image
from test_main import call


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def pixels(file):
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("kind", "words"), [("text", ["a fox", "a dog"]), ("class", ["--class", "fox", "--class", "dog"])]
)
def test_numbered_pictures_begin_and_end_with_those_of_sample(capsys, models, tmp_path, kind, words):
    arguments = [*words, "--model", models[kind], "--psi", "0.7", "--seeds", "5"]
    code, out, _ = call(capsys, "interpolate", *arguments, "--frames", "3")
    assert (code, out) == (0, "wrote frames/seed0005-frame0000.png and 4 more\n")
    frames = [tmp_path / "frames" / f"seed0005-frame000{number}.png" for number in range(5)]
    assert names(tmp_path / "frames") == [file.name for file in frames]
    assert call(capsys, "sample", *arguments)[0] == 0
    ends = sorted((tmp_path / "samples").iterdir(), key=lambda file: "dog" in file.name)
    for frame, end in ((frames[0], ends[0]), (frames[-1], ends[1])):
        assert np.abs(pixels(frame) - pixels(end)).max() <= 1
    assert len({frame.read_bytes() for frame in frames}) == 5


def test_strip_and_animation_show_all_seeds(capsys, models, tmp_path):
    words = ["a fox", "a dog", "a car", "--model", models["text"], "--seeds", "0-1", "--frames", "1"]
    code, out, _ = call(capsys, "interpolate", *words, "--strip", "s.png", "--animation", "a.webp", "--json")
    assert code == 0
    assert json.loads(out) == {"pictures": [], "strip": "s.png", "animation": "a.webp"}
    assert names(tmp_path) == ["a.webp", "s.png"]
    film = Image.open("a.webp")
    assert (film.n_frames, film.size) == (5, (32, 16))
    strip = Image.open("s.png")
    right, lower = strip.width - 12, strip.height - 12
    last = strip.crop((right - 96, lower - 96, right, lower))
    film.seek(4)
    expected = film.convert("RGB").crop((16, 0, 32, 16)).resize((96, 96), Image.Resampling.NEAREST)
    assert last.tobytes() == expected.tobytes()


def test_lines_of_a_file_move_psi_and_latent_too(capsys, models, tmp_path):
    (tmp_path / "p.txt").write_text("a fox | seed=3\na fox | seed=4 | psi=0.5\n")
    words = ["--prompts", "p.txt", "--model", models["text"], "--frames", "1", "--json"]
    code, out, _ = call(capsys, "interpolate", *words)
    assert code == 0
    made = json.loads(out)["pictures"]
    assert [one["psi"] for one in made] == [1.0, 0.75, 0.5]
    assert [one["share"] for one in made] == [0.0, 0.5, 1.0]
    files = [pixels(one["file"]) for one in made]
    assert np.abs(files[0] - files[2]).max() > 1
    code, _, _ = call(capsys, "sample", "a fox", "--seeds", "4", "--psi", "0.5", "--model", models["text"])
    assert np.abs(files[2] - pixels("samples/a-fox-seed0004-psi0.5.png")).max() <= 1


def test_frames_of_another_way_are_not_mixed_with(capsys, models, tmp_path):
    asked = ["interpolate", "--frames", "0", "--model", models["text"], "--out", "f"]
    assert call(capsys, *asked, "a fox", "a dog")[0] == 0
    before = pixels("f/seed0000-frame0000.png")
    code, _, err = call(capsys, *asked, "a car", "a dog")
    assert code == 2
    assert "f/seed0000-frame0000.png is there already, drawn from something else" in err
    assert "as 1 more" in err
    assert (pixels("f/seed0000-frame0000.png") == before).all()
    assert call(capsys, *asked, "a fox", "a dog")[0] == 0, "the same way again"
    assert call(capsys, *asked, "a fox", "a dog", "--seeds", "1")[0] == 0, "beside it"
    assert call(capsys, *asked, "a car", "a dog", "--overwrite")[0] == 0
    assert (pixels("f/seed0000-frame0000.png") != before).any()


def test_frames_of_a_longer_way_do_not_stand_behind_those_of_a_shorter_one(capsys, models, tmp_path):
    asked = ["interpolate", "a fox", "a fox", "--model", models["text"], "--out", "f", "--frames"]
    assert call(capsys, *asked, "0")[0] == 0
    shutil.copy("f/seed0000-frame0001.png", "f/seed0000-frame0002.png")
    code, _, err = call(capsys, *asked, "0")
    assert code == 2
    assert "f/seed0000-frame0002.png belongs to a longer way" in err


@pytest.mark.parametrize(
    "place", ["--strip s.png", "--animation a.png", "--animation a.gif", "--animation a.webp"]
)
def test_a_strip_or_film_of_another_way_is_not_replaced(capsys, models, tmp_path, place):
    option, file = place.split()
    asked = ["interpolate", "a fox", "a dog", "--frames", "1", "--model", models["text"], option, file]
    assert call(capsys, *asked)[0] == 0
    before = (tmp_path / file).read_bytes()
    assert call(capsys, *asked)[0] == 0
    for other in (["--seeds", "1"], ["--psi", "0.5"], ["--frames", "2"]):
        code, out, err = call(capsys, *asked, *other)
        assert (code, out) == (2, "")
        assert f"{file} is there already, drawn from something else: name another place" in err
    assert (tmp_path / file).read_bytes() == before
    assert call(capsys, *asked, "--psi", "0.5", "--overwrite")[0] == 0


MISTAKES = {
    "frames in a file": (["a fox", "a dog", "--out", "x.png"], "name a folder for the frames"),
    "one prompt": (["a fox"], "nothing to interpolate between: give at least two prompts, classes, seeds"),
    "no prompt": ([], "there is no prompt"),
    "frames": (["a fox", "a dog", "--frames", "-1"], "frames=-1 is out of range: use 0 to"),
    "psi": (["a fox", "a dog", "--psi", "nan"], "psi=nan"),
    "film": (["a fox", "a dog", "--animation", "a.mov"], "does not end in .png, .gif, .webp, .mp4"),
    "fps": (
        ["a fox", "a dog", "--animation", "a.gif", "--fps", "0"],
        "fps=0.0 is out of range: use 0.1 to 50",
    ),
    "strip": (["a fox", "a dog", "--strip", "/proc/none/s.png"], "cannot be written"),
    "long strip": (["a fox", "a dog", "--strip", "s.png", "--frames", "999"], "ask for fewer at a time"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence_and_nothing_is_written(capsys, models, tmp_path, mistake):
    arguments, sentence = MISTAKES[mistake]
    code, out, err = call(capsys, "interpolate", *arguments, "--model", models["text"])
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert names(tmp_path) == []
