"""`sgxl-t grid`: sweeps, style mixing, stages of a chain, nearest images of a data set."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from test_main import call
from tiny_models import tiny_model

from sgxl_t.model_io.model_folder import save_model
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.networks.generators.superres import load_stem
from sgxl_t.sampling.pipeline import Pipeline

CELL = 96
STEP = CELL + 4


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def cells(file, rows, columns, *, titled=False):
    """Cells of a sheet, [rows][columns] arrays at 96 px; they end at its lower right corner."""
    sheet = Image.open(file).convert("RGB")
    found = []
    down = STEP + (22 if titled else 0)
    for row in range(rows):
        y = sheet.height - 8 - 4 - CELL - (rows - 1 - row) * down
        line = []
        for column in range(columns):
            x = sheet.width - 8 - 4 - CELL - (columns - 1 - column) * STEP
            line.append(np.asarray(sheet.crop((x, y, x + CELL, y + CELL))).astype(int))
        found.append(line)
    return found


def enlarged(image):
    return np.asarray(image.resize((CELL, CELL), Image.Resampling.NEAREST)).astype(int)


def test_a_plain_grid_is_that_of_sample(capsys, models, tmp_path):
    words = ["a fox", "a dog", "--model", models["text"], "--seeds", "0-1", "--psi", "0.5,1"]
    assert call(capsys, "grid", *words, "--out", "a.png")[:2] == (0, "wrote a.png\n")
    assert call(capsys, "sample", *words, "--grid", "b.png")[0] == 0
    assert np.abs(np.asarray(Image.open("a.png")).astype(int) - np.asarray(Image.open("b.png"))).max() <= 1
    assert call(capsys, "grid", *words, "--out", "a.png")[0] == 0, "the same again"
    code, _, err = call(capsys, "grid", *words, "--psi", "1", "--out", "a.png")
    assert code == 2
    assert "a.png is there already, drawn from something else" in err


def test_a_mixing_table_shows_the_images_and_their_mixes(capsys, models):
    words = [
        "a fox",
        "a dog",
        "--model",
        models["text"],
        "--seeds",
        "3",
        "--mix",
        "a car",
        "--mix",
        "a blue car",
    ]
    assert call(capsys, "grid", *words, "--layers", "0-1", "--layers", "2-3", "--out", "m.png")[0] == 0
    found = cells("m.png", 5, 3)
    pipe = Pipeline.from_pretrained(models["text"])
    plain = pipe(["a fox", "a dog", "a car", "a blue car"], seed=3).images
    assert np.abs(found[0][1] - enlarged(plain[2])).max() <= 1
    assert np.abs(found[0][2] - enlarged(plain[3])).max() <= 1
    for block, layers in enumerate(("0-1", "2-3")):
        for row, name in enumerate(("a fox", "a dog")):
            line = found[1 + 2 * block + row]
            assert np.abs(line[0] - enlarged(plain[row])).max() <= 1
            mixed = pipe(name, seed=3, mix="a blue car", layers=layers).images[0]
            assert np.abs(line[2] - enlarged(mixed)).max() <= 1
    sheet = pipe.mixing_grid(
        pipe(["a fox", "a dog"], seed=3, output="latents"),
        pipe(["a car", "a blue car"], seed=3, output="latents"),
        [[0, 1], [2, 3]],
    )
    assert abs(sheet.height - Image.open("m.png").height) < 2


def test_seeds_of_a_model_without_condition_can_be_mixed(capsys, models):
    words = ["--model", models["none"], "--seeds", "0-1", "--mix-seeds", "5-7", "--layers", "0-2"]
    assert call(capsys, "grid", *words)[:2] == (0, "wrote grid.png\n")
    found = cells("grid.png", 3, 4)
    five = Pipeline.from_pretrained(models["none"])(seed=5).images[0]
    assert np.abs(found[0][1] - enlarged(five)).max() <= 1


def test_the_same_latents_at_every_stage(capsys, tmp_path):
    stem, condition = tiny_model("class", "sgxl-tiny-16")
    larger = build_generator("sgxl-tiny-32", condition.spec, seed=2).eval()
    load_stem(larger, stem)
    for name, generator in (("small", stem), ("large", larger)):
        save_model(tmp_path / name, generator, condition, {})
    words = ["--class", "fox", "--seeds", "0-1", "--out", "s.png"]
    assert call(capsys, "grid", "--stage", "small", "--stage", "large", *words)[0] == 0
    found = cells("s.png", 2, 2)
    for column, name in enumerate(("small", "large")):
        image = Pipeline.from_pretrained(tmp_path / name)("fox", seed=1).images[0]
        assert np.abs(found[1][column] - enlarged(image)).max() <= 1
    with torch.no_grad():
        larger.mapping.fc0.weight.mul_(2)
    save_model(tmp_path / "other", larger, condition, {})
    code, _, err = call(capsys, "grid", "--stage", "small", "--stage", "other", *words)
    assert code == 2
    assert "other maps latents otherwise than small" in err
    code, _, err = call(capsys, "grid", "--stage", "small", *words)
    assert code == 2
    assert "small is one model alone" in err


def test_nearest_images_with_distances(capsys, models, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    made = Pipeline.from_pretrained(models["none"])(seeds=range(8)).images
    for number, image in enumerate(made[1:]):
        image.save(data / f"{number}.png")
    words = ["--model", models["none"], "--seeds", "0-1", "--nearest", "data", "--json"]
    code, out, _ = call(capsys, "grid", *words)
    assert code == 0
    found = json.loads(out)["nearest"]
    assert found["compared"] == 7
    first, second = found["rows"]
    assert (first["copy"], second["copy"]) == (False, True)
    assert second["distances"][0] == 0
    assert second["indices"][0] == 0
    assert first["distances"] == sorted(first["distances"])
    rows = cells("grid.png", 2, 5, titled=True)
    assert np.abs(rows[1][0] - rows[1][1]).max() <= 1
    assert np.abs(rows[0][0] - enlarged(made[0])).max() <= 1


MISTAKES = {
    "two kinds": (
        ["a fox", "--mix", "a dog", "--layers", "1", "--nearest", "digits"],
        "are different sheets",
    ),
    "no layers": (["a fox", "--mix", "a dog"], "takes columns (--mix or --mix-seeds) and --layers"),
    "layer": (["a fox", "--mix", "a dog", "--layers", "99"], "layer 99 does not exist: the model has 0 to"),
    "ending": (["a fox", "--out", "a.webp"], "does not end in .png"),
    "stage and latents": (
        ["a fox", "--stage", "x", "--latents", "l.safetensors"],
        "leave --model and --latents",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_sheets_are_one_sentence(capsys, models, tmp_path, mistake):
    words, sentence = MISTAKES[mistake]
    words = words if "--stage" in words else [*words, "--model", models["text"]]
    code, out, err = call(capsys, "grid", *words)
    assert (code, out) == (2, "")
    assert sentence in err
    assert list(tmp_path.iterdir()) == []
