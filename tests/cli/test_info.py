import json

import pytest
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


def test_embedded_data_is_described(capsys):
    found = json.loads(call(capsys, "info", "digits", "--json")[1])
    assert (found["holds"], len(found["classes"])) == ("data set", 10)
    assert found["pictures"] > 1000


def test_feature_network_is_described(capsys, tmp_path):
    from tiny_models import tiny_clip

    tiny_clip().save_text(tmp_path / "clip")
    found = json.loads(call(capsys, "info", str(tmp_path / "clip"), "--json")[1])
    assert (found["holds"], found["kind"]) == ("feature network", "text")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (None, None, "does not exist"),
        ("config.json", "{", "no valid JSON"),
        ("config.yaml", "a: [", "no configuration of a run"),
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
