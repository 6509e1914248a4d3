"""The same command goes on: a run in two parts equals a run in one, bit for bit, on one process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from crashes import final_state
from PIL import Image
from tiny_runs import tiny_run

from sgxl_t.training.callbacks.stats_file import read_stats
from sgxl_t.training.parallel.exit_codes import INTERRUPTED
from sgxl_t.training.train import main

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"


def losses(folder):
    ignored = {"images_per_second", "loader_share", "memory_gib"}
    lines = read_stats(folder / "stats.jsonl")
    return [{name: value for name, value in line.items() if name not in ignored} for line in lines]


@pytest.mark.parametrize(
    "settings",
    [
        {
            "cond": "class",
            "generator": "stylegan3",
            "objective__pl_weight": 0.25,
            "objective__pl_start_kimg": 0,
        },
        {"cond": "text", "objective__share_fakes": "true", "objective__clip_weight": 0.2},
        {"cond": "text", "conditioning__train_text_encoder": "true", "batch__per_device": 4},
    ],
    ids=["class-path-length", "text-shared-fakes", "text-encoder-rounds"],
)
def test_resumed_run_equals_straight_run_bit_for_bit(settings, tmp_path, tiny_features):
    arguments = {"deterministic": "true", **settings}
    main(tiny_run(tmp_path / "straight", tiny_features, schedule__kimg=0.032, **arguments))
    main(tiny_run(tmp_path / "parts", tiny_features, schedule__kimg=0.016, **arguments))
    main(tiny_run(tmp_path / "parts", tiny_features, schedule__kimg=0.032, **arguments))
    straight, state = final_state(tmp_path / "straight")
    resumed, resumed_state = final_state(tmp_path / "parts")
    assert straight.keys() == resumed.keys()
    different = [name for name in straight if not torch.equal(straight[name], resumed[name])]
    assert different == []
    assert state["images_seen"] == resumed_state["images_seen"] == 32
    numbers = [line for line in losses(tmp_path / "parts") if "loss/g" in line]
    assert numbers == [line for line in losses(tmp_path / "straight") if "loss/g" in line]


def test_a_finished_run_stays_as_it_is(tmp_path, tiny_features, caplog):
    main(tiny_run(tmp_path / "run", tiny_features))
    before, _ = final_state(tmp_path / "run")
    caplog.set_level("INFO")
    main(tiny_run(tmp_path / "run", tiny_features))
    after, _ = final_state(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any("resumed from" in line for line in caplog.messages)


def test_a_resumed_run_says_that_its_data_changed(tmp_path, tiny_features, caplog):
    for number in range(24):
        (tmp_path / f"set/{number % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / f"set/{number % 2}/{number}.bmp")

    def says_so(kimg):
        caplog.clear()
        settings = {"cond": "none", "data__source": tmp_path / "set", "log__track_images": 0}
        main(tiny_run(tmp_path / "run", tiny_features, **settings, schedule__kimg=kimg))
        return "the data set is not the one of the checkpoint" in caplog.text

    assert not says_so(0.008)
    assert not says_so(0.016), "nothing changed"
    Image.new("RGB", (16, 16), (99, 0, 0)).save(tmp_path / "set/1/3.bmp")
    assert says_so(0.024)


def test_other_networks_are_refused_on_resume(tmp_path, tiny_features, capsys):
    main(tiny_run(tmp_path / "run", tiny_features))
    with pytest.raises(SystemExit) as caught:
        main(tiny_run(tmp_path / "run", tiny_features, generator__z_dim=32))
    assert caught.value.code == 2
    assert "made by other networks" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_training_saves_and_goes_on(number, tmp_path, tiny_features):
    arguments = tiny_run(tmp_path / "run", tiny_features, schedule__kimg=100, schedule__checkpoint_kimg=100)
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    stats = tmp_path / "run" / "stats.jsonl"
    limit = time.monotonic() + 120
    while not (stats.exists() and stats.read_text()) and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, errors
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    _, state = final_state(tmp_path / "run")
    assert state["images_seen"] > 0
    kimg = state["images_seen"] / 1000 + 0.008
    main(tiny_run(tmp_path / "run", tiny_features, schedule__kimg=kimg))
    assert final_state(tmp_path / "run")[1]["images_seen"] == state["images_seen"] + 8


def test_time_limit_saves_and_stops(tmp_path, tiny_features):
    with pytest.raises(SystemExit) as caught:
        main(tiny_run(tmp_path / "run", tiny_features, schedule__kimg=100, schedule__max_minutes=0.0001))
    assert caught.value.code == INTERRUPTED
    assert final_state(tmp_path / "run")[1]["images_seen"] == 8


def test_run_folder_holds_what_it_should(tmp_path, tiny_features):
    main(tiny_run(tmp_path / "run", tiny_features))
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {
        "config.yaml",
        "environment.json",
        "stats.jsonl",
        "samples",
        "checkpoints",
        "best",
        "last",
    } <= names
    page = (tmp_path / "run" / "report.html").read_text()
    assert "data:image/webp;base64" in page
    assert "http" not in page.replace("https://www.w3.org", "")
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["seed"] == 0


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"data__source": "no/such/folder"}, "no/such/folder"),
        ({"discriminator__features": "[timm:no_such_network]"}, "no_such_network"),
        ({"batch__images": 12}, "does not split"),
    ],
)
def test_mistakes_end_with_code_2_and_one_sentence(settings, named, tmp_path, tiny_features, capsys):
    with pytest.raises(SystemExit) as caught:
        main(tiny_run(tmp_path / "run", tiny_features, **settings))
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert named in error
    assert error.count("\n") == 1


def test_labels_missing_for_class_training(tmp_path, tiny_features, capsys):
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16), (number * 40, 10, 10)).save(folder / f"{number}.png")
    with pytest.raises(SystemExit) as caught:
        main(tiny_run(tmp_path / "run", tiny_features, data__source=folder))
    assert caught.value.code == 2
    assert "no labels" in capsys.readouterr().err


def test_unwritable_run_folder(tmp_path, tiny_features, capsys):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit) as caught:
        main(tiny_run(tmp_path / "file" / "run", tiny_features))
    assert caught.value.code == 2
    assert "cannot be written" in capsys.readouterr().err
