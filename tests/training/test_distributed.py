"""Two processes on one CPU: both take part, and a run goes on with another number of them."""

import json

import pytest
from launches import launch
from tiny_runs import tiny_run

from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.train import main


def test_two_processes_train_and_one_goes_on(tmp_path, tiny_features):
    settings = {"cond": "text", "conditioning__train_text_encoder": "true", "batch__per_device": 4}
    result = launch(tiny_run(tmp_path / "run", tiny_features, **settings))
    assert result.returncode == 0, result.stderr
    assert "2 process(es) take part, 1 round(s) of 4 images each" in result.stderr
    main(tiny_run(tmp_path / "run", tiny_features, schedule__kimg=0.032, **settings))
    _, _, state = load_newest(tmp_path / "run" / "checkpoints")
    assert state["images_seen"] == 32
    assert (tmp_path / "run" / "best" / "text_encoder").is_dir()


@pytest.mark.slow
def test_a_batch_that_does_not_split_over_two_processes(tmp_path, tiny_features):
    result = launch(tiny_run(tmp_path / "run", tiny_features, batch__images=9, batch__per_device="null"))
    assert result.returncode != 0
    assert "batch.images=9 does not split over 2 processes" in result.stderr


@pytest.mark.slow
def test_two_processes_go_through_all_stages(tmp_path, tiny_features):
    stages = "[{resolution: 16}, {resolution: 32, head_layers: 4}]"
    arguments = tiny_run(tmp_path / "run", tiny_features, generator="stylegan3", batch__per_device=4)
    result = launch([*arguments, "--stages", stages])
    assert result.returncode == 0, result.stderr
    assert "2 process(es) take part in 2 of 2 stages" in result.stderr
    chain = json.loads((tmp_path / "run" / "chain.json").read_text())
    assert [stage["state"] for stage in chain["stages"]] == ["finished", "finished"]
