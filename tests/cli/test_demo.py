"""The demonstration from end to end, with runs so short that only its files are judged."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = "import sys, demo_models; sys.exit('torch' in sys.modules)"


def test_the_demo_itself_stays_small_beside_its_training(monkeypatch):
    """What needs torch, half a GiB, happens in processes that end before training begins."""
    subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT / "scripts", check=True, timeout=60)
    monkeypatch.syspath_prepend(ROOT / "scripts")
    in_child = import_module("demo_models").in_child
    assert in_child(os.getpid) != os.getpid()


@pytest.mark.slow
def test_demo_leaves_models_scores_and_a_page(tmp_path):
    out = tmp_path / "demo"
    command = [
        sys.executable,
        "scripts/demo.py",
        "--out",
        str(out),
        "--class-kimg",
        "0.2",
        "--text-kimg",
        "0.1",
    ]
    subprocess.run(command, cwd=ROOT, check=True, timeout=900)
    scores = json.loads((out / "scores.json").read_text())
    common = {"accuracy", "frechet", "frechet_floor", "images", "minutes"}
    assert common <= scores["class"].keys()
    assert common | {"held_out", "retrieval_at_1"} <= scores["text"].keys()
    assert (
        scores["text"]["accuracy"].keys()
        == scores["text"]["held_out"].keys()
        >= {"all", "object", "scene", "size"}
    )
    assert scores["total_minutes"] > 0
    assert 0 < scores["peak_memory_gib"] < 4
    page = (out / "report.html").read_text()
    assert page.count("data:image/webp;base64") >= 6
    assert (out / "demo_text.png").is_file()
    assert (out / "demo_class.png").is_file()
    for kind, asked in (("class", ["--class", "3"]), ("text", ["a red fox in snow"])):
        sample = [sys.executable, "-m", "sgxl_t.cli.main", "sample", *asked, "--model", str(out / kind)]
        subprocess.run([*sample, "--out", str(tmp_path / kind)], check=True, timeout=120)
        assert len(list((tmp_path / kind).glob("*.png"))) == 1
