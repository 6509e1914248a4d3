"""`sgxl-t edit`: directions found, kept and applied; sheets, films and latents of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence
from test_main import call
from tiny_clips import tiny_whole_clip

from sgxl_t.sampling.directions.direction import Directions
from sgxl_t.sampling.latents import Latents


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def edited(capsys, *words):
    code, out, err = call(capsys, "edit", *words)
    assert code == 0, err
    return out


def refused(capsys, *words):
    code, _, err = call(capsys, "edit", *words)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    return err


def test_a_prompt_is_moved_to_another_and_all_files_are_written(capsys, models):
    asked = ["--model", models["text"], "--from", "a red fox", "--to", "a blue fox", "--name", "blue"]
    kept = ["--save-direction", "blue.safetensors", "--save-latents", "moved.safetensors", "--out", "a.png"]
    out = edited(
        capsys,
        "a red fox",
        "--seeds",
        "0-1",
        *asked,
        *kept,
        "--strengths",
        "0,1",
        "--film",
        "a.webp",
        "--frames",
        "2",
    )
    assert out.split() == [
        "wrote",
        "blue.safetensors",
        "wrote",
        "moved.safetensors",
        "wrote",
        "a.png",
        "wrote",
        "a.webp",
    ]
    assert Directions.open("blue.safetensors").names == ("blue",)
    moved = Latents.open("moved.safetensors")
    assert list(moved.conditions) == ["a red fox"] * 4
    frames = [np.asarray(one.convert("RGB")) for one in ImageSequence.Iterator(Image.open("a.webp"))]
    assert len(frames) == 2 * 3 + 1
    assert frames[0].shape == (16, 32, 3)
    assert (frames[0] == frames[-1]).all()
    assert (frames[0] != frames[3]).any()
    call(capsys, "sample", "a blue fox", "--model", models["text"], "--out", "b")
    call(capsys, "sample", "--latents", "moved.safetensors:1", "--model", models["text"], "--out", "c")
    pictures = [np.asarray(Image.open(next(folder.glob("*.png")))).astype(int) for folder in map(Path, "bc")]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_a_kept_direction_moves_latents_and_is_kept_again_only_unchanged(capsys, models):
    asked = ["--model", models["class"], "--from", "fox", "--to", "car", "--save-direction", "d.safetensors"]
    out = edited(capsys, *asked, "--json")
    assert json.loads(out)["sheet"] is None
    edited(capsys, *asked)
    assert "holds something else" in refused(
        capsys, "--model", models["class"], "--pca", "2", "--save-direction", "d.safetensors"
    )
    saved = ["--save-latents", "some.safetensors", "--seeds", "0-1"]
    assert call(capsys, "sample", "--class", "dog", "--model", models["class"], *saved)[0] == 0
    told = edited(
        capsys,
        "--model",
        models["class"],
        "--latents",
        "some.safetensors:1",
        "--direction",
        "d.safetensors",
        "--json",
    )
    assert json.loads(told)["directions"] == ["fox to car"]
    assert Image.open("edit.png").width > 3 * 96
    again = refused(
        capsys, "--model", models["class"], "--latents", "some.safetensors:0", "--direction", "d.safetensors"
    )
    assert "add --overwrite" in again


def test_w_alone_gives_several_lines(capsys, models):
    for source in ("--pca", "--closed-form"):
        out = edited(
            capsys,
            "--model",
            models["none"],
            source,
            "2",
            "--strengths",
            "-1,1",
            "--overwrite",
            "--json",
            "--layers",
            "0-1",
        )
        assert len(json.loads(out)["directions"]) == 2
        assert Image.open("edit.png").height > 2 * 96


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no direction was named"),
        (["--pca", "2", "--closed-form", "2"], "name directions twice"),
        (["--pca", "2", "--strengths", "x"], "strengths 'x'"),
        (["--pca", "2", "--layers", "0-99"], "layers"),
        (["--pca", "99999"], "1 to"),
        (["--from", "a fox"], "as many of both"),
        (["--pca", "2", "--pick", "blue"], "--pick chooses"),
        (["--direction", "absent.safetensors"], "missing"),
        (["--pca", "2", "--clip", "own"], "--clip reads the words"),
        (["--from", "a", "--to", "b", "--clip", "own"], "no CLIP"),
        (["--from", "a", "--to", "b", "--clip", "x:y"], "x:y"),
        (["--edits", "absent.txt"], "not a file"),
        (["--pca", "2", "--film", "a.webp", "--strengths", "1"], "at least two"),
        (["--pca", "2", "--save-direction", "a.txt"], "no name for a direction"),
        (["--pca", "2", "--out", "folder"], ".png"),
    ],
)
def test_what_cannot_be_is_one_sentence(capsys, models, words, said):
    assert said in refused(capsys, "a fox", "--model", models["text"], *words)


def test_a_direction_of_another_model_is_refused(capsys, models):
    edited(
        capsys, "--model", models["none"], "--pca", "1", "--save-direction", "d.safetensors", "--out", "a.png"
    )
    err = refused(capsys, "a fox", "--model", models["text"], "--direction", "d.safetensors")
    assert "d.safetensors" in err
    assert "this model" in err


def test_words_find_a_direction_through_a_clip(capsys, models, tmp_path):
    tiny_whole_clip().save(tmp_path / "clip")
    out = edited(
        capsys,
        "--model",
        models["text"],
        "a red fox",
        "--from",
        "a red fox",
        "--to",
        "a blue car",
        "--clip",
        f"local:{tmp_path / 'clip'}",
        "--clip-images",
        "32",
        "--name",
        "red",
        "--json",
    )
    told = json.loads(out)
    assert told["directions"] == ["red"]
    assert told["found"]["method"] == "clip"
    assert Image.open("edit.png").width > 3 * 96
