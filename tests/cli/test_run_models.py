"""Commands take the folder of a run for the model in it, and say which one they took."""

import json

import pytest
from test_main import call
from tiny_models import tiny_folder

from sgxl_t import Pipeline
from sgxl_t.model_io.run_model import model_in, stage_models


@pytest.fixture
def run(tmp_path):
    """A run whose last/ is there and whose best/ is not yet."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("cond: class\n")
    tiny_folder(tmp_path / "run" / "last", "class")
    return tmp_path / "run"


def stages(run, **states):
    entries = [{"folder": name, "state": state} for name, state in states.items()]
    (run / "chain.json").write_text(json.dumps({"format": 1, "stages": entries}))


def test_best_comes_before_last(run):
    assert model_in(run) == run / "last"
    tiny_folder(run / "best", "class")
    assert model_in(run) == run / "best"
    assert model_in(run / "last") == run / "last", "a model is taken as named"


def test_newest_stage_with_a_model_is_taken(run):
    stages(run, stage_016="finished", stage_032="running", stage_064="waiting")
    assert model_in(run) == run / "last"
    tiny_folder(run / "stage_016" / "best", "class")
    tiny_folder(run / "stage_064" / "best", "class")
    assert model_in(run) == run / "stage_016" / "best"
    tiny_folder(run / "stage_032" / "last", "class")
    assert model_in(run) == run / "stage_032" / "last"


def test_the_models_of_all_stages_come_first_stage_first(run):
    assert stage_models(run) == [run / "last"]
    assert stage_models(run / "last") == [run / "last"]
    stages(run, stage_016="finished", stage_032="running", stage_064="waiting")
    tiny_folder(run / "stage_016" / "best", "class")
    tiny_folder(run / "stage_032" / "last", "class")
    assert stage_models(run) == [run / "stage_016" / "best", run / "stage_032" / "last"]


@pytest.mark.parametrize(
    "words",
    [
        ("sample", "--class", "0", "--out", "OUT", "--model", "RUN"),
        ("interpolate", "--class", "0", "--class", "1", "--frames", "0", "--out", "OUT", "--model", "RUN"),
        ("centroids", "RUN", "--count", "2", "--draws", "8"),
        ("evaluate", "RUN", "--data", "digits", "--metrics", "fd_random_16_vs_16", "--json", "-"),
    ],
    ids=lambda words: words[0],
)
def test_commands_say_what_they_take(capsys, run, words, tmp_path):
    places = {"RUN": str(run), "OUT": str(tmp_path / "out")}
    code, _, err = call(capsys, *(places.get(word, word) for word in words))
    said = f"{run} is a run: taking its model {run}/last\n"
    assert (code, err.count(said)) == (0, 1), err
    if words[0] == "centroids":
        assert (run / "last" / "centroids.safetensors").is_file()


def test_pipelines_and_info_take_it_too(capsys, run):
    assert Pipeline.from_pretrained(run).info.folder == run / "last"
    capsys.readouterr()
    code, out, err = call(capsys, "info", str(run), "--json")
    assert (code, json.loads(out)["model"], err) == (0, str(run / "last"), "")


@pytest.mark.parametrize("command", [("sample", "--model"), ("centroids",), ("evaluate",)], ids=" ".join)
def test_a_run_without_a_model_says_what_to_do(capsys, tmp_path, command):
    (tmp_path / "config.yaml").write_text("cond: none\n")
    code, out, err = call(capsys, *command, str(tmp_path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"the run {tmp_path} has no model yet" in err
