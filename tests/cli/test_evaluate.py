import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_main import call
from tiny_clips import OPEN_CLIP, tiny_open_clip, tiny_whole_clip
from tiny_models import tiny_folder

from sgxl_t.cli.evaluation.evaluate_request import description
from sgxl_t.metrics import collect
from sgxl_t.metrics.coco import open_coco
from sgxl_t.metrics.generated import GeneratorImages
from sgxl_t.metrics.protocol import parse_metric
from sgxl_t.metrics.real_cache import RealImages
from sgxl_t.metrics.stored_images import StoredImages

ROOT = Path(__file__).parents[2]
METRICS = "fd_random_30_vs_60,kd_random_20_vs_60"


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SGXL_T_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path):
    """A folder of forty noise pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.RandomState(0)
    for number in range(40):
        Image.fromarray(random.randint(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def measured(capsys, *arguments, data="digits", metrics=METRICS):
    code, out, err = call(capsys, "evaluate", *arguments, "--data", data, "--metrics", metrics)
    assert code == 0, err
    return out


def test_models_and_pictures_side_by_side(capsys, models, pictures, tmp_path):
    out = measured(capsys, models["none"], models["class"], "pictures", "--json", "r.jsonl", "--csv", "r.csv")
    first = out.splitlines()[0]
    assert [models["none"], models["class"], "pictures"] == first.split()[1:]
    found = lines("r.jsonl")
    assert [record["metric"] for record in found[:2]] == ["fd_random_30_vs_60", "kd_random_20_vs_60"]
    assert {record["protocol"] for record in found[::2]} == {found[0]["protocol"]}
    assert all(record["value"] is not None and record["model_hash"] for record in found)
    assert len(Path("r.csv").read_text().splitlines()) == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "pictures", "r.csv", "r.jsonl"]


def test_the_same_request_gives_the_same_line(capsys, models):
    measured(capsys, models["none"], "--json", "first.jsonl")
    measured(capsys, models["none"], "--json", "second.jsonl")
    assert Path("first.jsonl").read_bytes() == Path("second.jsonl").read_bytes()


@pytest.mark.parametrize("batch_size", ["1", "64"])
def test_batch_size_does_not_matter(capsys, models, batch_size):
    measured(capsys, models["class"], "--json", "seven.jsonl", "--batch-size", "7")
    measured(capsys, models["class"], "--json", "other.jsonl", "--batch-size", batch_size)
    for one, other in zip(lines("seven.jsonl"), lines("other.jsonl"), strict=True):
        assert other["value"] == pytest.approx(one["value"], rel=1e-3)


def test_two_processes_give_the_numbers_of_one(capsys, models, tmp_path):
    measured(capsys, models["none"], "--json", "one.jsonl")
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        "configs/launch/cpu2.yaml",
    ]
    command += [
        "--main_process_port",
        "0",
        "-m",
        "sgxl_t.cli",
        "evaluate",
        models["none"],
        "--data",
        "digits",
    ]
    command += ["--metrics", METRICS, "--json", str(tmp_path / "two.jsonl")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("fd_random_30_vs_60:") == 1, "the main process alone prints"
    for one, other in zip(lines("one.jsonl"), lines("two.jsonl"), strict=True):
        assert other["value"] == pytest.approx(one["value"], rel=1e-6)
        assert other["protocol"] == one["protocol"]


def test_an_interrupted_command_goes_on(capsys, models, monkeypatch, tmp_path):
    monkeypatch.setattr(collect, "SAVE_EVERY", 8)
    whole, asked = GeneratorImages.images, []

    def stops(self, indices):
        if 20 in indices:
            raise KeyboardInterrupt
        return whole(self, indices)

    arguments = ["evaluate", models["none"], "--data", "digits", "--metrics", METRICS, "--batch-size", "8"]
    monkeypatch.setattr(GeneratorImages, "images", stops)
    assert call(capsys, *arguments, "--json", "r.jsonl")[0] == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "r.jsonl.partial"]

    def counts(self, indices):
        asked.extend(indices)
        return whole(self, indices)

    monkeypatch.setattr(GeneratorImages, "images", counts)
    assert call(capsys, *arguments, "--json", "r.jsonl")[0] == 0
    assert asked == list(range(16, 30))
    assert call(capsys, *arguments, "--json", "straight.jsonl")[0] == 0
    for one, other in zip(lines("straight.jsonl"), lines("r.jsonl"), strict=True):
        assert other["value"] == pytest.approx(one["value"], rel=1e-9)
    assert not Path("r.jsonl.partial").exists()


def test_results_of_earlier_calls_stand_beside_new_ones(capsys, models):
    measured(capsys, models["none"], "--json", "old.jsonl")
    out = measured(capsys, "old.jsonl", models["class"])
    assert out.splitlines()[0].split()[1:] == [models["none"], models["class"]]
    code, _, err = call(
        capsys,
        "evaluate",
        "old.jsonl",
        models["class"],
        "--data",
        "digits",
        "--metrics",
        "fd_random_40_vs_60",
    )
    assert code == 2
    assert "cannot be compared (generated pictures: 30 and 40)" in err


def test_what_cannot_be_compared_is_not_even_measured(capsys, models, tmp_path, monkeypatch):
    folder = tmp_path / "large"
    folder.mkdir()
    for number in range(40):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(folder / f"{number}.png")
    monkeypatch.setattr(GeneratorImages, "images", None)
    code, _, err = call(capsys, "evaluate", models["none"], "large", "--data", "digits", "--metrics", METRICS)
    assert code == 2
    assert "cannot be compared (fingerprint of the data" in err


def test_repeats_and_psi(capsys, models):
    measured(capsys, models["class"], "--repeats", "2", "--psi", "1,0.5", "--json", "r.jsonl")
    found = lines("r.jsonl")
    assert [record["psi"] for record in found] == [1.0, 1.0, 0.5, 0.5]
    assert all(len(record["values"]) == 2 and record["std_over"] == "seeds" for record in found)
    assert found[0]["values"][0] != found[0]["values"][1]


def test_captions_of_the_data_and_of_a_list(capsys, models):
    measured(capsys, models["text"], "--json", "r.jsonl")
    assert lines("r.jsonl")[0]["sampling"] == "captions of the data"
    Path("prompts.txt").write_text("a red fox\n" * 30)
    measured(capsys, models["text"], "--prompts", "prompts.txt", "--json", "p.jsonl")
    assert lines("p.jsonl")[0]["prompts"]
    Path("long.txt").write_text("a red fox\n" * 28 + "a " * 10 + "red fox\n" + "a " * 10 + "dog\n")
    code, _, err = call(
        capsys, "evaluate", models["text"], "--data", "digits", "--metrics", METRICS, "--prompts", "long.txt"
    )
    assert code == 0
    assert (
        "note: the model: 2 captions are longer than the context of 12 tokens and were cut, of 3 that were"
        in err
    )
    assert lines("p.jsonl")[0]["protocol"] != lines("r.jsonl")[0]["protocol"]


def test_a_curve_over_psi(capsys, models, tmp_path):
    tiny_whole_clip().save(tmp_path / "clip")
    metrics = "fd_random_20_vs_40,cs20_local:clip"
    measured(capsys, models["text"], "--psi", "1,0.5", "--curve", "curve.csv", metrics=metrics)
    rows = Path("curve.csv").read_text().splitlines()
    assert rows[0].startswith("psi,fd_random_20_vs_40,clip_score")
    assert len(rows) == 3
    assert Path("curve.svg").exists()
    metrics = "fd_random_4_vs_9,cs4_local:clip"
    measured(capsys, models["text"], "--curve", "whole.csv", metrics=metrics)
    psis = [row.split(",")[0] for row in Path("whole.csv").read_text().splitlines()[1:]]
    assert psis == ["1.0", "0.9", "0.8", "0.7", "0.6", "0.5", "0.4", "0.3"]


@pytest.fixture
def captions(tmp_path):
    """Five pictures with two captions each, as COCO describes them."""
    notes = [
        {"id": 2 * image + which, "image_id": image, "caption": f"a {colour} {thing}"}
        for image, thing in enumerate(("fox", "dog", "car", "snow", "beach"))
        for which, colour in enumerate(("red", "blue"))
    ]
    file = tmp_path / "captions_val2014.json"
    file.write_text(json.dumps({"images": [{"id": image} for image in range(5)], "annotations": notes}))
    return file


def test_coco_captions_are_drawn_frozen_and_used(capsys, models, captions, monkeypatch):
    monkeypatch.setattr("sgxl_t.cli.evaluation.evaluate_prompts.COUNT", 40)
    code, out, _ = call(capsys, "evaluate", "--coco", captions.name, "--prompts", "list.jsonl")
    assert code == 0
    header = json.loads(Path("list.jsonl").read_text().splitlines()[0])
    assert out == f"list.jsonl: 40 prompts, hash {header['hash']}\n"
    frozen = Path("list.jsonl").read_bytes()
    measured(capsys, models["text"], "--prompts", "list.jsonl", "--json", "frozen.jsonl")
    measured(capsys, models["text"], "--coco", captions.name, "--json", "drawn.jsonl")
    both = ["--coco", captions.name, "--prompts", "list.jsonl"]
    measured(capsys, models["text"], *both, "--json", "both.jsonl")
    found = [lines(f"{name}.jsonl") for name in ("frozen", "drawn", "both")]
    assert found[0] == found[1] == found[2]
    assert found[0][0]["prompts"] == header["hash"]
    assert Path("list.jsonl").read_bytes() == frozen
    measured(capsys, models["text"], "--coco", captions.name, "--coco-seed", "1", "--json", "other.jsonl")
    assert lines("other.jsonl")[0]["prompts"] != header["hash"]


def test_results_on_coco_say_how_both_sides_came_to_their_size(tmp_path):
    for side in (128, 300):
        (tmp_path / str(side)).mkdir()
        for number in range(2):
            Image.new("RGB", (side, side), (number, 0, 0)).save(tmp_path / str(side) / f"{number}.png")
    generated, real = StoredImages(tmp_path / "128"), RealImages(open_coco(tmp_path / "300", 64), "coco")
    about = description(generated, parse_metric("fid2_coco64"), {64: real})
    assert about["crop"] == "centre square"
    assert about["resize"] == "lanczos [256, 64]"
    assert about["fake_resize"] == "lanczos 128 to 64"
    assert description(generated, parse_metric("fid2"), {None: real}) == generated.describe()


def test_a_file_gives_the_weights_of_the_clip_of_captions(capsys, models, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    state = tiny_open_clip(monkeypatch).state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "clip.safetensors")
    wanted = ["--weights", "clip=clip.safetensors", "--json", "r.jsonl"]
    measured(capsys, models["text"], *wanted, metrics=f"cs8_{OPEN_CLIP}")
    (record,) = lines("r.jsonl")
    assert -1 <= record["value"] <= 1
    assert (record["extractor"], len(record["extractor_hash"])) == (OPEN_CLIP, 16)


def test_inception_with_other_weights_is_no_fid(capsys, models, pictures, tmp_path):
    from safetensors.torch import save_file

    from sgxl_t.metrics.features import load_extractor

    state = load_extractor("inception_hash").network.state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "pseudo.safetensors")
    weights = f"inception={tmp_path / 'pseudo.safetensors'}"
    measured(capsys, "pictures", "--weights", weights, "--json", "r.jsonl", metrics="fid3_vs_3")
    assert lines("r.jsonl")[0]["metric"] == "fd_inception_3_vs_3"


BAD = {
    "nothing to measure": ([], "nothing to measure"),
    "fewer than two pictures": (["one"], "holds 1 pictures: a metric needs at least 2"),
    "different sizes": (["sizes"], "different sizes, such as 16 x 16 (0.png) and 8 x 8 (1.png)"),
    "too few pictures": (["pictures", "--metrics", "fid500"], "holds 40 pictures and 500 are asked for"),
    "a broken picture": (["broken"], "no usable picture"),
    "no weights": (["MODEL", "--metrics", "fid10"], "weights of inception are missing"),
    "wrong hash": (
        ["MODEL", "--metrics", "fid10", "--weights", "inception=w.pth", "--sha256", f"inception={'0' * 64}"],
        "has the SHA-256",
    ),
    "wrong keys": (["MODEL", "--metrics", "fid10", "--weights", "inception=w.safetensors"], "w.safetensors"),
    "captions too short": (["TEXT", "--prompts", "few.txt"], "2 lines and 30 pictures are asked for"),
    "no input transform": (["MODEL", "--metrics", "eqt4_int"], "equivariance is unsupported"),
    "coco without its prompts": (["TEXT", "--metrics", "fid30k_coco64"], "needs a frozen list"),
    "no captions of coco": (["TEXT", "--coco", "few.txt"], "is no COCO captions file"),
    "seed of no list": (["TEXT", "--coco-seed", "3"], "name COCO's captions file with --coco"),
    "prompts for no text": (["MODEL", "--prompts", "few.txt"], "none of what is measured is a text model"),
    "options in a list": (["TEXT", "--prompts", "own.txt"], "a psi or seed of its own"),
    "no weights of clip": (
        ["TEXT", "--metrics", "cs", "--weights", "clip=nowhere.bin"],
        "nowhere.bin is no file: give the weights of open_clip:ViT-g-14",
    ),
    "weights of nothing": (["MODEL", "--weights", "inceptoin=w.pth"], "no metric has weights of that name"),
    "psi of no numbers": (["MODEL", "--psi", "some"], "is not a list of numbers"),
    "unknown metric": (["MODEL", "--metrics", "fidd"], "did you mean fid"),
    "psi of pictures": (["pictures", "--psi", "0.5"], "have no psi"),
    "missing data": (["MODEL", "--data", "nowhere"], "'nowhere' does not exist"),
    "result that is a folder": (["MODEL", "--json", "pictures"], "is a folder"),
    "other result file": (["MODEL", "--json", "few.txt"], "no results file"),
    "curve of one psi": (["TEXT", "--curve", "c.csv"], "--curve draws"),
    "missing model": (["missing"], "is not a folder"),
    "batch of nothing": (["MODEL", "--batch-size", "0"], "batch_size=0"),
    "run without a model": (["run"], "the run run has no model yet"),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_one_sentence_and_leave_no_result(capsys, models, pictures, tmp_path, case):
    from safetensors.torch import save_file

    for name, sizes in (("one", [16]), ("sizes", [16, 8])):
        (tmp_path / name).mkdir()
        for number, size in enumerate(sizes):
            Image.new("RGB", (size, size)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "broken").mkdir()
    for number in range(2):
        (tmp_path / "broken" / f"{number}.png").write_text("no picture")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("cond: none\n")
    (tmp_path / "few.txt").write_text("a fox\na dog\n")
    (tmp_path / "own.txt").write_text("a fox | psi=0.5\na dog\n")
    (tmp_path / "w.pth").write_text("no weights")
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    given, sentence = BAD[case]
    given = [{"MODEL": models["none"], "TEXT": models["text"]}.get(word, word) for word in given]
    defaults = {"--data": "digits", "--metrics": METRICS, "--json": "r.jsonl"}
    for option, value in defaults.items():
        given += [] if option in given else [option, value]
    code, out, err = call(capsys, "evaluate", *given)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert not (tmp_path / "r.jsonl").exists()


def test_real_pictures_are_asked_for_where_they_are_needed(capsys, models):
    code, _, err = call(capsys, "evaluate", models["none"], "--metrics", METRICS)
    assert code == 2
    assert "compares with real pictures and none are given: name --data" in err
    code, _, err = call(capsys, "evaluate", models["text"], "--metrics", METRICS)
    assert code == 2
    assert "captions are drawn from data and none is given" in err


def test_nan_ends_in_a_sentence_without_a_result(capsys, tmp_path, monkeypatch):
    from sgxl_t.networks.backbones.feature_networks import FeatureNetwork

    def broken(self, images01):
        return torch.full((len(images01), self.embed_dim), torch.nan)

    monkeypatch.setattr(FeatureNetwork, "pooled", broken)
    model = str(tiny_folder(tmp_path / "m", "none"))
    arguments = ["evaluate", model, "--data", "digits", "--metrics", METRICS, "--json", "r.jsonl"]
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert "is NaN: features of 60 of 60 pictures" in err
    assert not Path("r.jsonl").exists()
