"""`sgxl-t sample --save-latents` and `--latents`."""

import json

import numpy as np
import pytest
from PIL import Image
from test_main import call

from sgxl_t.sampling.latents import Latents


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pixels(file):
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("kind", "words"), [("text", ["a fox"]), ("class", ["--class", "fox"]), ("none", [])]
)
def test_saved_latents_are_drawn_as_the_same_images(capsys, models, tmp_path, kind, words):
    asked = ["sample", *words, "--model", models[kind], "--seeds", "3-5", "--psi", "0.7"]
    code, out, _ = call(capsys, *asked, "--save-latents", "some/f.safetensors")
    assert code == 0
    assert out.endswith("wrote some/f.safetensors\n")
    latents = Latents.open("some/f.safetensors")
    assert [made["seed"] for made in latents.made] == [3, 4, 5]
    again = ["sample", "--latents", "some/f.safetensors:0,2", "--model", models[kind], "--out", "again"]
    code, out, _ = call(capsys, *again, "--json")
    assert code == 0
    made = json.loads(out)["pictures"]
    assert [one["file"] for one in made] == ["again/f-row0000.png", "again/f-row0002.png"]
    assert [(one["seed"], one["psi"]) for one in made] == [(None, 0.7)] * 2
    first = sorted((tmp_path / "samples").iterdir())
    for one, expected in zip(made, (first[0], first[2]), strict=True):
        assert np.abs(pixels(one["file"]) - pixels(expected)).max() <= 1
    assert call(capsys, *again)[0] == 0, "the same again"
    assert call(capsys, *asked, "--save-latents", "some/f.safetensors")[0] == 0
    assert call(capsys, *again, "--psi", "1,0.5", "--grid", "g.png")[0] == 0
    assert (tmp_path / "again/f-row0002-psi0.5.png").exists()


def test_files_that_hold_something_else_are_kept(capsys, models, tmp_path):
    asked = [
        "sample",
        "a fox",
        "--model",
        models["text"],
        "--out",
        "a.png",
        "--save-latents",
        "f.safetensors",
    ]
    assert call(capsys, *asked)[0] == 0
    before = (tmp_path / "f.safetensors").read_bytes()
    code, _, err = call(capsys, *asked, "--seeds", "1", "--out", "b.png")
    assert code == 2
    assert "f.safetensors is there already and holds something else: name another file" in err
    assert not (tmp_path / "b.png").exists()
    assert (tmp_path / "f.safetensors").read_bytes() == before
    assert call(capsys, *asked, "--seeds", "1", "--out", "b.png", "--overwrite")[0] == 0
    draw = ["sample", "--latents", "f.safetensors", "--model", models["text"], "--out", "c"]
    assert call(capsys, *draw)[0] == 0
    assert call(capsys, *asked, "--overwrite")[0] == 0
    code, _, err = call(capsys, *draw)
    assert code == 2
    assert "c/f-row0000.png is there already, drawn from something else" in err


MISTAKES = {
    "missing": (["--latents", "none.safetensors"], "none.safetensors is missing"),
    "row": (["--latents", "f.safetensors:7"], "f.safetensors has no row 7: take row 0"),
    "rows": (["--latents", "f.safetensors:x"], "rows 'x' cannot be read"),
    "twice": (["--latents", "f.safetensors", "--latents", "f.safetensors"], "is called like another file"),
    "mix": (["--latents", "f.safetensors", "--mix", "a dog", "--layers", "1"], "start from seeds"),
    "seeds": (["--latents", "f.safetensors", "--seeds", "1-3"], "--seeds 1-3 draws nothing"),
    "name": (["a fox", "--save-latents", "f.pt"], "f.pt is no name for latents: name a file such as f.saf"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_requests_for_latents_are_one_sentence(capsys, models, mistake):
    assert (
        call(capsys, "sample", "a fox", "--model", models["text"], "--save-latents", "f.safetensors")[0] == 0
    )
    words, sentence = MISTAKES[mistake]
    code, out, err = call(capsys, "sample", *words, "--model", models["text"], "--out", "new")
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_latents_of_another_kind_of_model_are_one_sentence(capsys, models):
    assert (
        call(capsys, "sample", "a fox", "--model", models["text"], "--save-latents", "f.safetensors")[0] == 0
    )
    code, _, err = call(capsys, "sample", "--latents", "f.safetensors", "--model", models["none"])
    assert code == 2
    assert "f.safetensors holds" in err
    assert "take latents of this model" in err
