import json
import shutil

import pytest
from PIL import Image
from test_main import call
from tiny_models import tiny_folder


def test_model_folder_is_described(capsys, tmp_path):
    folder = tiny_folder(tmp_path / "m", "class")
    code, out, _ = call(capsys, "info", str(folder), "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["holds"], found["family"], found["resolution"]) == ("model", "stylegan_t", 16)
    assert found["classes"][:2] == ["fox", "dog"]
    assert found["provenance"]["data"] == "made up"
    code, out, _ = call(capsys, "info", str(folder))
    assert code == 0
    assert "condition.num classes" in out


def test_run_folder_is_described_also_with_a_cut_last_line(capsys, tmp_path):
    (tmp_path / "config.yaml").write_text("cond: text\ndata: {source: emoji-scenes}\nschedule: {kimg: 8}\n")
    (tmp_path / "stats.jsonl").write_text('{"images": 2000, "loss/d": 1.5}\n{"images": 40')
    (tmp_path / "checkpoints" / "kimg_0000002.000").mkdir(parents=True)
    tiny_folder(tmp_path / "best", "none")
    found = json.loads(call(capsys, "info", str(tmp_path), "--json")[1])
    assert (found["holds"], found["condition"], found["data"]) == ("run", "text", "emoji-scenes")
    assert (found["trained_kimg"], found["planned_kimg"]) == (2.0, 8)
    assert found["checkpoints"] == ["kimg_0000002.000"]
    assert found["models"] == ["best"]


def a_chain(folder):
    from sgxl_t.training.progressive.stages_state import StagesState, StageState

    (folder / "config.yaml").write_text("cond: class\n")
    stem = StageState(resolution=16, folder="stage_016", layers=11, new_layers=11, planned_kimg=8.0, kimg=6.0)
    stem.state, stem.ended_by, stem.metrics = "finished", "plateau", {"fd_random": 1.25}
    head = StageState(resolution=32, folder="stage_032", layers=16, new_layers=8, planned_kimg=4.0)
    head.state = "running"
    StagesState([stem, head]).write(folder)
    (folder / "stage_032").mkdir()
    (folder / "stage_032" / "stats.jsonl").write_text('{"images": 1000}\n')


def test_a_chain_is_drawn_with_where_it_stands(capsys, tmp_path):
    a_chain(tmp_path)
    found = json.loads(call(capsys, "info", str(tmp_path), "--json")[1])
    assert (found["holds"], found["next_stage"]) == ("chain", "32 px")
    assert found["stages"]["stage_016"]["ended_by"] == "plateau"
    code, out, _ = call(capsys, "info", str(tmp_path))
    lines = out.splitlines()
    assert code == 0
    assert "16 px" in lines[0]
    assert "6 of 8 kimg, 11 layers, ended by plateau, fd_random 1.25" in lines[0]
    assert "8 layers rest, 8 train" in lines[1]
    assert "[#####...............] running" in lines[2]
    assert "1 of 4 kimg" in lines[2]


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": 7}', '{"format": 1, "stages": [{"resolution": 16}]}']
)
def test_a_broken_chain_is_one_sentence(capsys, tmp_path, content):
    (tmp_path / "chain.json").write_text(content)
    code, _, err = call(capsys, "info", str(tmp_path))
    assert code == 2
    assert "chain.json" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("data: [1]", "data is a list of 1 where a group"),
        ("data: {source: [a]}", "data.source is a list of 1 where text"),
        ("schedule: {kimg: many}", "schedule.kimg is text where a number"),
        ("cond: 3", "cond is 3 where text"),
        ("a: " + "[" * 5000, "not the configuration of a run"),
        ("a: " + "x" * 2**20, "more than the 1048576 that are read"),
    ],
)
def test_a_run_with_other_things_in_its_settings_is_one_sentence(capsys, tmp_path, content, sentence):
    (tmp_path / "config.yaml").write_text(content)
    code, out, err = call(capsys, "info", str(tmp_path))
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_embedded_data_is_described(capsys):
    found = json.loads(call(capsys, "info", "digits", "--json")[1])
    assert (found["holds"], len(found["classes"])) == ("data set", 10)
    assert found["pictures"] > 1000


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_data_of_files_is_described_with_sizes_and_what_is_not_used(capsys, tmp_path, kind):
    place = tmp_path / "d"
    for number in range(4):
        picture = place / ("cat", "dog")[number % 2] / f"{number}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + number, 30)).save(picture)
    (place / "cover.png").write_bytes((place / "cat" / "0.png").read_bytes())
    (place / "notes.md").write_text("x")
    path = place if kind == "folder" else shutil.make_archive(str(tmp_path / "d"), "zip", place)
    found = json.loads(call(capsys, "info", str(path), "--json")[1])
    assert (found["pictures"], found["classes"]) == (4, ["cat", "dog"])
    assert found["width"] == {"min": 20, "median": 22, "max": 23}
    assert found["height"]["max"] == 30
    lines = [
        "rejected: 1 x in no class folder (cover.png)",
        "not used: 1 x file of no known kind (notes.md)",
    ]
    assert found["left_out"] == lines
    out = call(capsys, "info", str(path))[1].splitlines()
    assert out[-2:] == lines
    assert "width.max                    23" in out


def test_feature_network_is_described(capsys, tmp_path):
    from tiny_models import tiny_clip

    tiny_clip().save_text(tmp_path / "clip")
    found = json.loads(call(capsys, "info", str(tmp_path / "clip"), "--json")[1])
    assert (found["holds"], found["kind"]) == ("feature network", "text")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (None, None, "does not exist"),
        ("config.json", "{", "is not valid JSON"),
        ("config.yaml", "a: [", "not the configuration of a run"),
        ("generator.safetensors", "x", "holds no config.json"),
    ],
)
def test_what_holds_nothing_is_one_sentence(capsys, tmp_path, name, content, sentence):
    path = tmp_path / "thing"
    if name is not None:
        path.mkdir()
        (path / name).write_text(content)
    code, out, err = call(capsys, "info", str(path))
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_an_embedded_set_is_described_by_its_name(capsys):
    code, out, _ = call(capsys, "info", "emoji-worlds:24x6", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["holds"], found["pictures"], len(found["classes"])) == ("data set", 20_000, 24)
