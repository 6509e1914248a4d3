"""`sgxl-t interpolate`: keys of every kind, loops, walks side by side, films, moves."""

import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageSequence
from test_main import call


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pixels(file):
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def film_frames(file):
    return [np.asarray(one.convert("RGB")).astype(int) for one in ImageSequence.Iterator(Image.open(file))]


def test_a_model_without_condition_is_walked_from_seed_to_seed(capsys, models, tmp_path):
    asked = ["--model", models["none"], "--seeds", "0-2"]
    code, out, _ = call(capsys, "interpolate", *asked, "--frames", "2", "--json")
    assert code == 0
    made = json.loads(out)["pictures"]
    assert [one["condition"] for one in made][::3] == ["seed 0", "seed 1", "seed 2"]
    assert made[1]["condition"] == "seed 0 to seed 1"
    assert call(capsys, "sample", *asked)[0] == 0
    for seed, one in enumerate(made[::3]):
        assert np.abs(pixels(one["file"]) - pixels(f"samples/picture-seed{seed:04d}.png")).max() <= 1


@pytest.mark.parametrize("curve", ["straight", "smooth"])
def test_a_loop_ends_with_the_image_it_began_with(capsys, models, curve):
    words = ["a fox", "a dog", "a car", "--model", models["text"], "--frames", "3", "--loop"]
    film = ["--curve", curve, "--animation", "a.webp", "--scale", "2", "--fps", "10"]
    assert call(capsys, "interpolate", *words, *film)[0] == 0
    frames = film_frames("a.webp")
    assert len(frames) == 3 * 4 + 1
    assert frames[0].shape == (32, 32, 3)
    assert (frames[0] == frames[-1]).all()
    steps = [np.abs(one - other).mean() for one, other in pairwise(frames)]
    assert min(steps) > 0


def test_keys_of_several_kinds_stand_in_the_order_of_a_file(capsys, models, tmp_path):
    asked = ["--model", models["text"]]
    saved = ["--save-latents", "some.safetensors", "--seeds", "5,6"]
    assert call(capsys, "sample", "a fox", *asked, *saved)[0] == 0
    (tmp_path / "keys.txt").write_text("a dog | seed=3\nsome.safetensors:1\na car | psi=0.5\n")
    code, out, _ = call(capsys, "interpolate", "--prompts", "keys.txt", *asked, "--frames", "1", "--json")
    assert code == 0
    made = json.loads(out)["pictures"]
    assert [one["condition"] for one in made][::2] == ["a dog", "a fox, seed 6", "a car"]
    assert np.abs(pixels(made[2]["file"]) - pixels("samples/a-fox-seed0006.png")).max() <= 1
    code, _, err = call(capsys, "interpolate", "--prompts", "keys.txt", *asked, "--space", "z", "--out", "b")
    assert code == 2
    assert "rows of latents have none: use space=w" in err
    words = ["interpolate", "--latents", "some.safetensors", *asked, "--strip", "s.png", "--frames", "0"]
    assert call(capsys, *words)[0] == 0


def test_keys_are_dealt_out_to_walks_in_one_film(capsys, models):
    asked = ["interpolate", "--class", "fox", "--model", models["class"], "--seeds", "0-7", "--loop"]
    film = ["--walks", "4", "--columns", "2", "--frames", "1", "--animation", "a.png"]
    assert call(capsys, *asked, *film)[0] == 0
    frames = film_frames("a.png")
    assert len(frames) == 2 * 2 + 1
    assert frames[0].shape == (32, 32, 3)
    assert call(capsys, "sample", "--class", "fox", "--model", models["class"], "--seeds", "6")[0] == 0
    assert np.abs(frames[0][16:, 16:] - pixels("samples/fox-seed0006.png")).max() <= 1
    code, _, err = call(capsys, *asked, "--walks", "3", "--out", "b")
    assert code == 2
    assert "8 keys cannot be dealt out to 3 walks" in err


def test_mp4_has_every_frame_in_its_size(capsys, models):
    av = pytest.importorskip("av")
    words = ["a fox", "a dog", "--model", models["text"], "--seeds", "0-1", "--frames", "4", "--loop"]
    asked = ["interpolate", *words, "--animation", "a.mp4", "--scale", "4", "--fps", "24"]
    assert call(capsys, *asked)[0] == 0
    with av.open("a.mp4") as film:
        stream = film.streams.video[0]
        assert (stream.width, stream.height, float(stream.average_rate)) == (128, 64, 24)
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in film.decode(stream)]
    assert len(frames) == 2 * 5 + 1
    assert np.abs(frames[0] - frames[-1]).mean() < 6
    assert call(capsys, *asked)[0] == 0, "the same again"
    code, _, err = call(capsys, *asked, "--psi", "0.5")
    assert code == 2
    assert "a.mp4 is there already, drawn from something else" in err


def test_without_pyav_mp4_names_the_way_out(capsys, models, monkeypatch):
    monkeypatch.setattr("sgxl_t.sampling.output.video.find_spec", lambda name: None)
    asked = ["interpolate", "a fox", "a dog", "--model", models["text"], "--animation", "a.mp4"]
    code, _, err = call(capsys, *asked)
    assert code == 2
    assert "a.mp4 needs PyAV: install it with pip install 'sgxl-t[video]', or name it a.webp" in err


@pytest.mark.parametrize("ending", ["webp", "mp4"])
def test_an_interrupted_film_leaves_nothing(capsys, models, tmp_path, monkeypatch, ending):
    if ending == "mp4":
        pytest.importorskip("av")
    from sgxl_t.sampling.output import interpolation_writer

    seen, tiled = [], interpolation_writer.tiled

    def stop_at_third(*arguments):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return tiled(*arguments)

    monkeypatch.setattr(interpolation_writer, "tiled", stop_at_third)
    words = ["interpolate", "a fox", "a dog", "--model", models["text"], "--animation", f"a.{ending}"]
    code, _, err = call(capsys, *words)
    assert (code, err.strip()) == (130, "interrupted")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("move", ["translate", "rotate"])
def test_a_picture_moves_round_and_comes_back(capsys, models, move):
    asked = ["interpolate", "--class", "fox", "--model", models["class"], "--move", move]
    assert call(capsys, *asked, "--frames", "6", "--animation", "a.png")[0] == 0
    frames = film_frames("a.png")
    assert len(frames) == 8
    assert (frames[0] == frames[-1]).all()
    assert all((one != frames[0]).any() for one in frames[1:-1])
    code, _, err = call(capsys, *asked, "--loop")
    assert code == 2
    assert "--move shows no walk" in err


MISTAKES = {
    "text of classes": (
        ["--class", "fox", "--class", "dog", "--space", "text"],
        "this model has none of: use z",
    ),
    "sphere of styles": (
        ["--class", "fox", "--class", "dog", "--curve", "sphere"],
        "styles lie on no sphere",
    ),
    "scale": (["--class", "fox", "--class", "dog", "--scale", "0"], "scale=0"),
    "one seed": (["--class", "fox"], "give at least two prompts, classes, seeds or rows of latents"),
    "sampling mode": (["--class", "fox", "--move", "rotate", "--optimize"], "leave --optimize out"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_walks_are_one_sentence(capsys, models, mistake):
    words, sentence = MISTAKES[mistake]
    code, _, err = call(capsys, "interpolate", *words, "--model", models["class"])
    assert code == 2
    assert sentence in err
