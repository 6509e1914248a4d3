"""`sgxl-t centroids`: the file it leaves, what sampling makes of it, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from test_main import call
from tiny_models import tiny_folder

from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.sampling.truncation.centroids import FILE, compute_centroids, save_centroids


@pytest.fixture
def folder(tmp_path):
    return tiny_folder(tmp_path / "m", "class", "sgxl-tiny-16")


def test_the_command_stores_centres_that_sampling_uses(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "centroids", str(folder), "--count", "6", "--device", "cpu", "--json")
    said = json.loads(out)
    assert code == 0
    assert (said["centres"], said["by"], said["draws"], said["seed"]) == (6, "all", 360, 0)
    first = (folder / FILE).read_bytes()
    assert call(capsys, "centroids", str(folder), "--count", "6", "--device", "cpu")[0] == 0
    assert (folder / FILE).read_bytes() == first, "the same request gives the same file"
    pipe = Pipeline.from_pretrained(folder, device="cpu")
    shown = {
        kind: pipe("fox", seeds=range(6), psi=0.0, truncation=kind).images for kind in ("class", "centroid")
    }
    assert len({image.tobytes() for image in shown["class"]}) == 1
    assert len({image.tobytes() for image in shown["centroid"]}) > 1
    arguments = [
        "--class",
        "fox",
        "--psi",
        "0",
        "--truncation",
        "centroid",
        "--seeds",
        "0-5",
        "--device",
        "cpu",
    ]
    assert call(capsys, "sample", "--model", str(folder), *arguments)[0] == 0
    for seed, image in enumerate(shown["centroid"]):
        assert np.array_equal(
            np.asarray(Image.open(f"samples/fox-seed{seed:04d}-psi0-centroid.png")), np.asarray(image)
        )


def test_centres_of_other_settings_are_replaced_on_request_only(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["centroids", str(folder), "--device", "cpu", "--count"]
    assert call(capsys, *asked, "6")[0] == 0
    first = (folder / FILE).read_bytes()
    for other in (["5"], ["6", "--draws", "70"], ["6", "--seed", "1"], ["6", "--by", "class"]):
        code, out, err = call(capsys, *asked, *other)
        assert (code, out) == (2, "")
        assert "is there already, made with other settings (count 6, by all, draws 360, seed 0)" in err
    assert (folder / FILE).read_bytes() == first
    drawn = ["sample", "--class", "fox", "--psi", "0.7", "--truncation", "centroid", "--model", str(folder)]
    assert call(capsys, *drawn)[0] == 0
    assert call(capsys, *asked, "5", "--overwrite")[0] == 0
    assert (folder / FILE).read_bytes() != first
    code, _, err = call(capsys, *drawn)
    assert code == 2, "other centres draw another picture of the same name"
    assert "samples/fox-seed0000-psi0.7-centroid.png is there already, drawn from something else" in err
    save_file(load_file(folder / FILE), folder / FILE, metadata={"about": '{"mapping": "0"}'})
    assert call(capsys, *asked, "6")[0] == 0, "centres that do not fit the model are of no use"
    assert (folder / FILE).read_bytes() == first


BROKEN = {
    "truncated": (lambda f: f.write_bytes(f.read_bytes()[:-40]), "truncated or no safetensors"),
    "another model": (
        lambda f: save_file(load_file(f), f, metadata={"about": '{"mapping": "0"}'}),
        "made with other weights",
    ),
    "another width": (lambda f: save_file({"centroids": torch.zeros(3, 5)}, f), "holds no centres of"),
    "not finite": (
        lambda f: save_file({"centroids": load_file(f)["centroids"] * torch.nan}, f),
        "not finite numbers",
    ),
    "class without centres": (
        lambda f: save_file({**load_file(f), "classes": torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])}, f),
        "every one of 4 classes",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_one_sentence_and_only_where_they_are_used(
    capsys, folder, tmp_path, case, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    pipe = Pipeline.from_pretrained(folder, device="cpu")
    save_centroids(folder, compute_centroids(pipe.generator, 2, by="class", draws=20), pipe.generator)
    damage, sentence = BROKEN[case]
    damage(folder / FILE)
    request = ["sample", "--model", str(folder), "--class", "fox", "--psi", "0.7"]
    assert call(capsys, *request)[0] == 0
    code, _, err = call(capsys, *request, "--truncation", "centroid")
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("kind", "name", "arguments", "sentence"),
    [
        ("class", "sgxl-tiny-16", ["--count", "0"], "0 centres were asked for"),
        ("class", "sgxl-tiny-16", ["--count", "5", "--draws", "4"], "use at least 5"),
        ("class", "sgxl-tiny-16", ["--seed", "-1"], "seed -1 is not a whole number"),
        ("none", "sgxl-tiny-16", ["--by", "class"], "it is a none model"),
        ("class", "sgt-tiny-16", ["--by", "class"], "styles do not depend on the class"),
        ("text", "sgxl-tiny-16", [], "every prompt has styles of its own"),
    ],
)
def test_centres_that_cannot_be_had_are_one_sentence(capsys, tmp_path, kind, name, arguments, sentence):
    folder = tiny_folder(tmp_path / "m", kind, name)
    code, _, err = call(capsys, "centroids", str(folder), *arguments)
    assert code == 2
    assert sentence in err
    assert not (folder / FILE).exists()
