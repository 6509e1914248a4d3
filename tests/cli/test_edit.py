"""`sgxl-t edit`: directions found, kept and applied; sheets, films and latents of them."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from test_main import call
from tiny_clips import tiny_whole_clip
from tiny_models import tiny_model

from sgxl_t.model_io.model_folder import save_model
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.networks.generators.superres import load_stem
from sgxl_t.sampling.directions import by_clip
from sgxl_t.sampling.directions.direction import Directions
from sgxl_t.sampling.latents import Latents
from sgxl_t.sampling.pipeline import Pipeline


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


def test_ctrl_c_keeps_the_direction_so_far_and_goes_on_with_it(capsys, models, tmp_path, monkeypatch):
    tiny_whole_clip().save(tmp_path / "clip")
    Path("edits.txt").write_text("red: a red fox -> a blue car\nblue: a blue car -> a red fox\n")
    plain, steps = by_clip._embedded, []

    def interrupted(clip, images):
        if torch.is_grad_enabled():
            steps.append(len(images))
            if len(steps) == 3:
                signal.raise_signal(signal.SIGINT)
        return plain(clip, images)

    monkeypatch.setattr(by_clip, "_embedded", interrupted)
    sought = ["--edits", "edits.txt", "--clip", f"local:{tmp_path / 'clip'}", "--clip-images", "64"]
    asked = ["--model", models["text"], "--keep", "0", "--save-direction", "d.safetensors"]
    code, out, err = call(capsys, "edit", "a red fox", *sought, *asked)
    assert code == 130
    assert "stopped after step 3 of 8; 'red' goes as far as that; left out: blue" in err
    assert out.split() == ["wrote", "d.safetensors", "wrote", "edit.png"]
    found = Directions.open("d.safetensors")
    assert found.names == ("red",)
    assert found.found["steps"] == 3
    assert found.vectors.abs().sum() > 0


def test_a_direction_of_inverted_photographs_moves_them_with_the_tuned_generator(capsys, models):
    Image.new("RGB", (16, 16), (200, 40, 90)).save("photo.png")
    model = ["--model", models["text"]]
    few = ["--steps", "6", "--candidates", "8", "--pti", "2", "--prompt", "a red fox"]
    assert call(capsys, "invert", "photo.png", *model, *few)[0] == 0
    where = ["--latents", "inverted/latents.safetensors", "--tuned", "inverted/tuned.safetensors"]
    found = ["--from", "a red fox", "--to", "a blue car", "--save-direction", "d.safetensors"]
    edited(capsys, *model, *found, *where, "--strengths", "0,1", "--save-latents", "moved.safetensors")
    pipe = Pipeline.from_pretrained(models["text"], tuned="inverted/tuned.safetensors")
    rows = pipe.edit("inverted/latents.safetensors", "d.safetensors", [0, 1])
    assert Latents.open("moved.safetensors").ws.equal(rows.ws)
    still, moved = (np.asarray(image).astype(int) for image in pipe(ws=rows).images)
    assert (still == np.asarray(Image.open("inverted/photo.png"))).all()
    assert np.abs(still - moved).max() > 0
    untuned = Pipeline.from_pretrained(models["text"])(ws=rows[1]).images[0]
    assert np.abs(np.asarray(untuned).astype(int) - moved).max() > 0


@pytest.mark.parametrize("source", [["--from", "fox", "--to", "car"], ["--pca", "1"]])
def test_a_direction_of_a_low_stage_moves_the_same_latents_at_the_next_one(capsys, tmp_path, source):
    stem, condition = tiny_model("class", "sgxl-tiny-16")
    larger = build_generator("sgxl-tiny-32", condition.spec, seed=2).eval()
    load_stem(larger, stem)
    for name, generator in (("small", stem), ("large", larger)):
        save_model(tmp_path / name, generator, condition, {})
    edited(capsys, "--model", "small", "--class", "fox", *source, "--save-direction", "d.safetensors")
    ways = {}
    for name in ("small", "large"):
        asked = ["--model", name, "--class", "fox", "--seeds", "3", "--direction", "d.safetensors"]
        kept = ["--save-latents", f"{name}.safetensors", "--strengths", "0,1", "--out", f"{name}.png"]
        edited(capsys, *asked, *kept)
        ws = Latents.open(f"{name}.safetensors").ws
        ways[name] = ws[1] - ws[0]
        pictures = Pipeline.from_pretrained(name)(ws=f"{name}.safetensors", output="np").images
        assert np.abs(pictures[1] - pictures[0]).mean() > 1e-3
    assert larger.num_ws > stem.num_ws
    torch.testing.assert_close(ways["large"], ways["small"][:1].expand(larger.num_ws, -1))
