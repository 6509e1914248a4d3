"""Folders of models, networks and runs with anything in their JSON load, or one sentence says why not."""

import copy
import json
from contextlib import suppress

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_clips import tiny_whole_clip
from tiny_models import tiny_clip, tiny_folder
from tiny_text_towers import t5_folder

from sgxl_t.model_io.model_folder import load_model, save_model
from sgxl_t.networks.backbones.local_networks import (
    SmallCNN,
    SmallCNNConfig,
    SmallViT,
    SmallViTConfig,
    load_local,
    save_local,
)
from sgxl_t.networks.frozen import load_clip, load_stored_text, load_text_encoder
from sgxl_t.networks.text.text_encoder import JoinedEncoders
from sgxl_t.training.callbacks.health import read_health, warnings_on
from sgxl_t.training.callbacks.report.run_report import write_run_report
from sgxl_t.training.callbacks.stats_file import newest_numbers, read_stats
from sgxl_t.training.checkpoint.checkpoint import load_newest, save_checkpoint
from sgxl_t.training.progressive.stages_state import StagesState, StageState, draw_stages, read_stages

DEEP = [0]
for _ in range(200):
    DEEP = [DEEP]
VALUES = st.one_of(
    st.sampled_from([None, True, False, 0, -1, 1, 2, 1 << 20, 1 << 31, 1 << 63, 10**400, -(10**30)]),
    st.sampled_from([0.5, -0.0, 1e-300, 1e300, float("nan"), float("inf")]),
    st.sampled_from(["", "x", "\x1b[31m", "\ud800", "../..", "/", "auto", "a" * 20_000, "part_0", "local:x"]),
    st.sampled_from([[], {}, [1], [[1]], {"a": 1}, [0] * 1000, ["a"] * 70, DEEP, {"kind": "class"}]),
    st.integers(-10, 5000),
    st.floats(),
    st.text(max_size=20),
)


def _folder(root):
    """A run folder with all files that info and the report read."""
    root.mkdir()
    (root / "samples").mkdir()
    for name in ("fakes_000001.000", "reals", "nearest"):
        Image.new("RGB", (34, 34)).save(root / "samples" / f"{name}.png")
    rows = {"names": ["fox", "owl"], "columns": 2, "real": [2, 1]}
    (root / "samples" / "rows.json").write_text(json.dumps(rows))
    near = [{"sample": "fox", "nearest": ["owl"], "distance": 0.5}]
    table = {"kimg": 1.0, "compared": 5, "pictures": 9, "usual": 0.25, "rows": near}
    (root / "samples" / "nearest.json").write_text(json.dumps(table))
    (root / "environment.json").write_text('{"torch": "2", "seed": 1}')
    (root / "stats.jsonl").write_text('{"images": 1000, "loss/d": 0.5}\n')
    entry = {"images": 5, "kimg": 0.005, "rule": "a", "state": "begins", "value": 1.0, "text": "b"}
    (root / "health.jsonl").write_text(json.dumps(entry) + "\n")
    stage = StageState(resolution=16, folder="stage_016", layers=4, new_layers=4, planned_kimg=8.0)
    stage.metrics = {"fd": 1.5}
    StagesState([stage]).write(root)
    return root


def _read_run(root):
    newest_numbers(read_stats(root / "stats.jsonl"))
    warnings_on(read_health(root) or [])
    write_run_report(root)
    draw_stages(root, read_stages(root))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Every kind of folder by name, with what reads it."""
    root = tmp_path_factory.mktemp("folders")
    kinds = {name: root / name for name in ("cnn", "vit", "clip", "text", "joined", "t5", "stored_t5", "run")}
    save_local(
        kinds["cnn"], SmallCNN(SmallCNNConfig(channels=(4, 4, 4, 4), num_classes=3)), {"classes": ["a"]}
    )
    save_local(kinds["vit"], SmallViT(SmallViTConfig(image_size=8, width=8, heads=2, depth=2)))
    tiny_whole_clip().save(kinds["clip"])
    tiny_clip().save_text(kinds["text"])
    JoinedEncoders([tiny_clip(), tiny_clip()]).save_text(kinds["joined"])
    t5_folder(kinds["t5"])
    load_text_encoder(f"transformers:{kinds['t5']}").text_copy().save_text(kinds["stored_t5"])
    save_checkpoint(root / "checkpoints", 1.0, {"ema": {"a": torch.zeros(1)}}, {"images_seen": 0}, keep=2)
    found = {
        "cnn": (kinds["cnn"], load_local),
        "vit": (kinds["vit"], load_local),
        "clip": (kinds["clip"], lambda folder: load_clip(f"local:{folder}")),
        "text": (kinds["text"], load_stored_text),
        "joined": (kinds["joined"], load_stored_text),
        "stored_t5": (kinds["stored_t5"], load_stored_text),
        "t5": (kinds["t5"], lambda folder: load_text_encoder(f"transformers:{folder}")),
        "run": (_folder(kinds["run"]), _read_run),
        "checkpoint": (root / "checkpoints", load_newest),
    }
    for kind in ("class", "text"):
        name = "sgxl-tiny-16" if kind == "class" else "sgt-tiny-16"
        folder = tiny_folder(root / f"model_{kind}", kind, name)
        generator, condition, _ = load_model(folder)
        save_model(folder, generator, condition, {"data": ["a"], "licence": "x"}, {"fd": {"value": 1.0}})
        found[f"model_{kind}"] = (folder, load_model)
    return found


def _places(value):
    """Every place inside, as the container and its key."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(inner):
        yield value, key
        yield from _places(one)


def _spoil(data, content):
    """The text of a JSON file (or of one with JSON in each line) with one or two of its values changed."""
    values = (
        [json.loads(line) for line in content.splitlines()] if "\n{" in content else [json.loads(content)]
    )
    for _ in range(data.draw(st.integers(1, 2))):
        places = list(_places(values))
        container, key = places[data.draw(st.integers(0, len(places) - 1))]
        what = data.draw(st.sampled_from(["value", "value", "value", "gone", "more"]))
        if what == "value":
            container[key] = copy.deepcopy(data.draw(VALUES))
        elif what == "gone":
            del container[key]
        elif isinstance(container, dict):
            container[data.draw(st.text(max_size=8))] = copy.deepcopy(data.draw(VALUES))
        values = values or [None]
    return "\n".join(json.dumps(value) for value in values) + "\n"


def _try(data, kind, folder, read):
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl"))
    path = paths[data.draw(st.integers(0, len(paths) - 1))]
    before = path.read_text(encoding="utf-8")
    changed = _spoil(data, before)
    if data.draw(st.integers(0, 9)) == 0:
        changed = changed[: data.draw(st.integers(0, len(changed)))]
    try:
        path.write_text(changed, encoding="utf-8")
        with suppress(ValueError):
            read(folder)
    except (AssertionError, TypeError, KeyError, AttributeError, RuntimeError, LookupError, OSError) as error:
        raise AssertionError(f"{kind}: {path.name} gives {type(error).__name__}: {changed[:2000]}") from error
    finally:
        path.write_text(before, encoding="utf-8")


QUICK = ("cnn", "vit", "clip", "joined", "run", "checkpoint", "model_class", "model_text")
RULES = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True, "database": None}


@settings(max_examples=300, **RULES)
@given(data=st.data())
def test_anything_in_json_loads_or_is_one_sentence(folders, data):
    kind = data.draw(st.sampled_from(QUICK))
    _try(data, kind, *folders[kind])


@settings(max_examples=25, **RULES)
@given(data=st.data())
def test_anything_in_the_json_of_other_libraries_loads_or_is_one_sentence(folders, data):
    kind = data.draw(st.sampled_from(["t5", "stored_t5"]))
    _try(data, kind, *folders[kind])


@pytest.mark.slow
@settings(max_examples=3000, **{**RULES, "derandomize": False})
@given(data=st.data())
def test_anything_in_json_loads_or_is_one_sentence_at_length(folders, data):
    kind = data.draw(st.sampled_from([*QUICK, "text", "t5", "stored_t5"]))
    _try(data, kind, *folders[kind])
