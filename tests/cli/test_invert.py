"""`sgxl-t invert` and `invert-train`: what they write, how they stop and go on, what they refuse."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_main import call

from sgxl_t.sampling.inversion import invert as inversions
from sgxl_t.sampling.latents import Latents

QUICK = ["--steps", "6", "--candidates", "8"]


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a", "b")):
        Image.new("RGB", (24, 24), (200, 40 * number, 90)).save(f"{name}.png")


def inverted(capsys, models, *more, kind="none"):
    code, out, err = call(capsys, "invert", "a.png", "b.png", "--model", models[kind], *QUICK, *more)
    return code, out, err


def test_writes_latents_pictures_sheet_curve_and_film(capsys, models):
    code, out, _ = inverted(capsys, models, "--pti", "3", "--out", "o", "--video", "way.webp", "--json")
    assert code == 0
    rows = json.loads(out)
    assert [(row["photo"], row["file"]) for row in rows] == [("a.png", "o/a.png"), ("b.png", "o/b.png")]
    assert all(row["psnr"] > 5 and row["steps"] == 9 for row in rows)
    assert rows[0]["features"] == "random:small_cnn"
    assert rows[0]["notes"] == ["reduced from 24 to 16 px"]
    assert {path.name for path in Path("o").iterdir()} == {
        *("a.png", "b.png", "sheet.png", "loss.png", "inversion.json"),
        *("latents.safetensors", "tuned.safetensors"),
    }
    assert Image.open("o/a.png").size == (16, 16)
    assert Image.open("way.webp").n_frames > 9
    latents = Latents.open("o/latents.safetensors")
    assert latents.names == ("a.png", "b.png")
    asked = ["sample", "--latents", "o/latents.safetensors:1", "--model", models["none"]]
    assert call(capsys, *asked, "--tuned", "o/tuned.safetensors", "--out", "t")[0] == 0
    drawn, written = (np.asarray(Image.open(file)) for file in ("t/latents-row0001.png", "o/b.png"))
    assert (drawn == written).all()
    code, _, err = call(capsys, *asked, "--out", "t")
    assert code == 2
    assert "drawn by another model" in err


def test_the_same_command_again_does_nothing_and_another_one_keeps_what_is_there(capsys, models):
    first = inverted(capsys, models, "--json")
    before = Path("inverted/a.png").stat().st_mtime_ns
    again = inverted(capsys, models, "--json")
    assert again[:2] == first[:2]
    assert Path("inverted/a.png").stat().st_mtime_ns == before
    code, _, err = inverted(capsys, models, "--seed", "1")
    assert code == 2
    assert "holds another inversion" in err
    assert inverted(capsys, models, "--seed", "1", "--overwrite")[0] == 0


def test_interrupted_it_keeps_the_best_and_goes_on(capsys, models, monkeypatch):
    plain = inversions.Inversion.advance

    def interrupted(self):
        if self.step == 4:
            signal.raise_signal(signal.SIGINT)
        return plain(self)

    monkeypatch.setattr(inversions.Inversion, "advance", interrupted)
    code, _, err = inverted(capsys, models, "--pti", "3")
    assert code == 130
    assert "stopped after step 5 of 9; the best so far is in inverted, and the same command goes on" in err
    kept = Latents.open("inverted/latents.safetensors")
    assert len(kept) == 2
    monkeypatch.setattr(inversions.Inversion, "advance", plain)
    code, out, err = inverted(capsys, models, "--pti", "3")
    assert code == 0
    assert "going on from step 5 of 9" in err
    assert "tuned.safetensors" in out
    assert not Path("inverted/state.safetensors").exists()


def test_an_encoder_is_trained_once_and_used(capsys, tmp_path, models):
    from tiny_models import tiny_folder

    model = str(tiny_folder(tmp_path / "model", "class"))
    code, out, _ = call(capsys, "invert-train", "--model", model, "--images", "64", "--json")
    assert code == 0
    assert json.loads(out)["images"] == 64
    code, _, err = call(capsys, "invert-train", "--model", model, "--images", "64")
    assert code == 2
    assert "add --overwrite" in err
    code, out, _ = call(capsys, "invert", "a.png", "--model", model, "--steps", "0", "--json")
    assert code == 0
    assert json.loads(out)[0]["start"] == "encoder"


def real_pictures(folder, count=20, broken=0):
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (20, 16), (12 * number, 90, 200)).save(folder / f"{number:02}.png")
    for number in range(broken):
        (folder / f"{number:02}.png").write_bytes(b"no picture")
    return str(folder)


def test_an_encoder_learns_from_real_pictures_and_says_from_which(capsys, tmp_path):
    from tiny_models import tiny_folder

    from sgxl_t.networks.weights.stored_tensors import opened

    model, data = tiny_folder(tmp_path / "model", "none"), real_pictures(tmp_path / "real", broken=1)
    asked = ["invert-train", "--model", str(model), "--images", "320", "--data", data]
    code, out, err = call(capsys, *asked, "--json")
    assert code == 0
    said = json.loads(out)
    assert (said["images"] + said["real"], said["real"]) == (320, 96), "half of each of the last six batches"
    assert said["data"] == data
    assert "00.png" in err, "the broken picture is named"
    with opened(model / "inversion.safetensors", "") as file:
        assert json.loads(file.metadata()["encoder"])["facts"]["data_fingerprint"] == said["data_fingerprint"]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("nowhere", "nowhere"),
        ("a.png", "a.png"),
        ("empty", "empty"),
        ("broken", "3 of 4 items were rejected"),
        ("emoji-scenes:900x8", "emoji-scenes"),
    ],
)
def test_real_pictures_that_cannot_be_read_are_one_sentence(capsys, tmp_path, data, sentence):
    from tiny_models import tiny_folder

    model = tiny_folder(tmp_path / "model", "none")
    Path("empty").mkdir()
    real_pictures(Path("broken"), 4, broken=3)
    before = sorted(model.iterdir())
    code, out, err = call(capsys, "invert-train", "--model", str(model), "--images", "64", "--data", data)
    assert (code, out) == (2, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(model.iterdir()) == before


@pytest.mark.parametrize(
    ("more", "kind", "sentence"),
    [
        (["--steps", "-3"], "none", "steps=-3 is out of range"),
        (["--class", "fox"], "none", "--class fox does not fit a model of kind none"),
        (["--prompt", "a fox"], "class", "--prompt 'a fox' does not fit a model of kind class"),
        (["--class", "fox", "--class", "dog", "--class", "car"], "class", "3 prompts or classes came with 2"),
        (["--class", "zebra"], "class", "zebra"),
        (["--out", "a.png"], "none", "a.png is a file: name a folder"),
        (["--video", "way.avi"], "none", "way.avi does not end in"),
        (["--features", "nonsense"], "none", "nonsense"),
        (["missing.png"], "none", "missing.png: No such file"),
    ],
)
def test_mistakes_are_one_sentence(capsys, models, more, kind, sentence):
    code, out, err = inverted(capsys, models, *more, kind=kind)
    assert (code, out) == (2, "")
    assert sentence in err.splitlines()[-1]
    assert not Path("inverted").exists()
