"""Runs whose loader processes are killed end as if nothing had happened, and leave no process behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from crashes import assert_same_run, final_state, processes_with
from launches import ROOT
from test_shard_runs import shards
from tiny_runs import tiny_run

from sgxl_t.training.loop.trainer import Trainer
from sgxl_t.training.parallel.exit_codes import INTERRUPTED
from sgxl_t.training.train import main


def kill_one_in(monkeypatch, updates):
    """A loader process dies amid each of these updates, counted from 0."""
    whole = Trainer.loss

    def loss(self, phase, *given):
        if self.state.iteration in updates and phase == "d":
            updates.remove(self.state.iteration)
            child = multiprocessing.active_children()[0]
            os.kill(child.pid, signal.SIGKILL)
            child.join()
        return whole(self, phase, *given)

    monkeypatch.setattr(Trainer, "loss", loss)


def test_a_run_with_killed_processes_equals_an_undisturbed_one(tmp_path, tiny_features, monkeypatch, caplog):
    settings = {"deterministic": "true", "schedule__kimg": 0.04}
    main(tiny_run(tmp_path / "quiet", tiny_features, **settings))
    kill_one_in(monkeypatch, updates := {1, 3})
    main(tiny_run(tmp_path / "killed", tiny_features, data__num_workers=2, **settings))
    assert updates == set()
    assert "time 2 of 3" in caplog.text
    assert multiprocessing.active_children() == []
    assert_same_run(tmp_path / "killed", tmp_path / "quiet")


def test_a_run_on_shards_with_a_killed_process(tmp_path, tiny_features, monkeypatch, caplog):
    settings = {
        "cond": "text",
        "deterministic": "true",
        "schedule__kimg": 0.04,
        "data__source": shards(tmp_path / "shards"),
        "data__num_workers": 2,
        "data__shuffle_samples": 10,
    }
    main(tiny_run(tmp_path / "quiet", tiny_features, **settings))
    kill_one_in(monkeypatch, {2})
    main(tiny_run(tmp_path / "killed", tiny_features, **settings))
    assert "time 1 of 3" in caplog.text
    assert_same_run(tmp_path / "killed", tmp_path / "quiet")


def test_processes_that_die_again_and_again_end_the_run(tmp_path, tiny_features, monkeypatch, capsys):
    kill_one_in(monkeypatch, {0, 1, 2, 3, 4})
    with pytest.raises(SystemExit) as caught:
        main(tiny_run(tmp_path / "run", tiny_features, data__num_workers=1, schedule__kimg=0.08))
    assert caught.value.code == 2
    assert "error: loader processes failed 4 times" in capsys.readouterr().err
    assert final_state(tmp_path / "run")[1]["images_seen"] == 32


def started(run, features):
    """A run of two loader processes in a session of its own, once it trains."""
    arguments = tiny_run(
        run, features, data__num_workers=2, schedule__kimg=100, schedule__checkpoint_kimg=100
    )
    process = subprocess.Popen(
        [sys.executable, "scripts/train.py", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    limit = time.monotonic() + 120
    while not ((run / "stats.jsonl").exists() and (run / "stats.jsonl").read_text()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.1)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_saves(number, tmp_path, tiny_features):
    """As Ctrl-C in a terminal, and as schedulers do it."""
    process = started(tmp_path / "run", tiny_features)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, errors
    assert "Traceback" not in errors
    assert final_state(tmp_path / "run")[1]["images_seen"] > 0
    assert processes_with(str(tmp_path / "run")) == []


@pytest.mark.slow
def test_loader_processes_end_with_a_killed_run(tmp_path, tiny_features):
    process = started(tmp_path / "run", tiny_features)
    assert len(processes_with(str(tmp_path / "run"))) == 3
    process.kill()
    process.communicate()
    limit = time.monotonic() + 30
    while processes_with(str(tmp_path / "run")) and time.monotonic() < limit:
        time.sleep(0.2)
    assert processes_with(str(tmp_path / "run")) == []
