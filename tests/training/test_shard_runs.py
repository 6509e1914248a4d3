"""Runs on shards: they go on with the very next sample, and say what their settings lack."""

import json

import pytest
import torch
from test_distributed import launch
from test_resume import final_state
from tiny_runs import tiny_run
from tiny_shards import picture, write_shards

from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.train import main


def shards(folder):
    def captioned(number):
        info = {"similarity": number / 60, "alt": f"picture {number}"}
        return {
            "png": b"broken" if number == 40 else picture(number * 4),
            "txt": f"a small fox {number}".encode(),
            "json": json.dumps(info).encode(),
        }

    return write_shards(folder, shards=3, samples=20, of=captioned)


def arguments(folder, features, data, kimg, **settings):
    return tiny_run(
        folder,
        features,
        cond="text",
        data__source=data,
        deterministic="true",
        schedule__kimg=kimg,
        data__filter="similarity > 0.2",
        data__caption_fields="[txt, alt]",
        data__caption_dropout=0.2,
        data__shuffle_samples=10,
        **settings,
    )


def run(*given, **settings):
    main(arguments(*given, **settings))


def test_a_run_on_shards_goes_on_bit_for_bit(tmp_path, tiny_features):
    data = shards(tmp_path / "shards")
    run(tmp_path / "straight", tiny_features, data, 0.032)
    run(tmp_path / "parts", tiny_features, data, 0.016)
    run(tmp_path / "parts", tiny_features, data, 0.032)
    straight, state = final_state(tmp_path / "straight")
    resumed, resumed_state = final_state(tmp_path / "parts")
    assert [name for name in straight if not torch.equal(straight[name], resumed[name])] == []
    assert state["data"] == resumed_state["data"]
    assert state["data"][0]["marks"][0] != [0, 0, 0]


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("data.caption_dropout", "1.5", "no share"),
        ("data.shuffle_samples", "0", "greater than 0"),
        ("data.order", "random", "data.order"),
    ],
)
def test_settings_out_of_range(flag, value, message):
    with pytest.raises(ValueError, match=message):
        parse_config([f"--{flag}", value])


def test_data_alone_names_the_source():
    config = parse_config(["--data", "shards/{00000..00009}.tar", "--cond", "text"])
    assert config.data.source == "shards/{00000..00009}.tar"


def test_two_processes_with_workers_go_on_with_the_very_next_sample(tmp_path, tiny_features, caplog):
    data = f"{shards(tmp_path / 'shards')}/{{00000..00002}}.tar"
    settings = {"batch__per_device": 4, "data__num_workers": 2, "data__reject_limit": 0.5}
    for place, kimg in (("straight", 0.032), ("parts", 0.016), ("parts", 0.032)):
        result = launch(arguments(tmp_path / place, tiny_features, data, kimg, **settings))
        assert result.returncode == 0, result.stderr
        assert "begins afresh" not in result.stderr
    straight, resumed = (final_state(tmp_path / place)[1]["data"] for place in ("straight", "parts"))
    assert straight == resumed
    assert [len(rank["marks"]) for rank in resumed] == [2, 2]
    run(tmp_path / "parts", tiny_features, data, 0.04, **settings)
    assert "begins afresh" in caplog.text
    assert final_state(tmp_path / "parts")[1]["images_seen"] == 40
