"""A closed terminal ends a run as SIGTERM does, with a checkpoint; a log that nobody reads ends no run."""

import os
import pty
import signal
import time

import pytest
from crashes import final_state, finish, start
from tiny_runs import tiny_run

from sgxl_t.model_io.run_model import model_in
from sgxl_t.training.parallel.exit_codes import INTERRUPTED

ENDLESS = {"schedule__kimg": 100, "schedule__checkpoint_kimg": 100, "schedule__snapshot_kimg": 100}


def ignore_hang_ups():
    """What nohup does."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def hear_hang_ups():
    """As in a terminal, wherever the tests were started from."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def until_it_trains(run):
    limit = time.monotonic() + 60
    while not (run / "stats.jsonl").exists() or not (run / "stats.jsonl").read_text():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_a_closed_terminal_saves_first(tmp_path, tiny_features):
    arguments = tiny_run(tmp_path / "run", tiny_features, log__track_images=0, **ENDLESS)
    process = start(arguments, tmp_path / "log", hear_hang_ups)
    until_it_trains(tmp_path / "run")
    os.kill(process.pid, signal.SIGHUP)
    process.join(60)
    assert process.exitcode == INTERRUPTED, (tmp_path / "log").read_text()
    assert "SIGHUP: saving after this update" in (tmp_path / "log").read_text()
    assert final_state(tmp_path / "run")[1]["images_seen"] > 0
    assert model_in(tmp_path / "run") == tmp_path / "run" / "last", "before the first snapshot"


def test_a_run_under_nohup_outlives_its_terminal(tmp_path, tiny_features):
    arguments = tiny_run(tmp_path / "run", tiny_features, log__track_images=0, **ENDLESS)
    process = start(arguments, tmp_path / "log", ignore_hang_ups)
    until_it_trains(tmp_path / "run")
    os.kill(process.pid, signal.SIGHUP)
    process.join(0.5)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == INTERRUPTED


def words_go_to(descriptor):
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def pipe_without_reader():
    read, write = os.pipe()
    os.close(read)
    words_go_to(write)


def terminal_that_is_closed():
    master, slave = pty.openpty()
    os.close(master)
    words_go_to(slave)


def log_on_a_full_disk():
    words_go_to(os.open("/dev/full", os.O_WRONLY))


@pytest.mark.parametrize("lost", [pipe_without_reader, terminal_that_is_closed, log_on_a_full_disk])
def test_a_log_that_nobody_takes_ends_no_run(lost, tmp_path, tiny_features):
    arguments = tiny_run(tmp_path / "run", tiny_features, log__progress="true", log__tensorboard="true")
    assert finish(arguments, tmp_path / "log", lost) == 0
    assert final_state(tmp_path / "run")[1]["images_seen"] == 16
