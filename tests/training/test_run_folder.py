"""A run folder belongs to one training; where it vanishes, the run ends with one sentence."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from crashes import final_state, finish, start
from tiny_runs import tiny_run

from sgxl_t.training.loop.trainer import Trainer
from sgxl_t.training.parallel.exit_codes import USER_ERROR, WRITE_FAILED
from sgxl_t.training.train import main

CLASS_DEBUG = Path(__file__).parents[2] / "configs" / "debug" / "class.yaml"
LONG = {"schedule__kimg": 100, "schedule__snapshot_kimg": 100, "log__track_images": 0}


@pytest.fixture
def going_on(tmp_path, tiny_features):
    """A run in a process of its own that has written its first numbers; its log is tmp_path/log."""
    process = start(tiny_run(tmp_path / "run", tiny_features, **LONG), tmp_path / "log")
    limit = time.monotonic() + 60
    while not list(tmp_path.glob("run/checkpoints/kimg_*")) and time.monotonic() < limit:
        time.sleep(0.05)
    yield process
    process.kill()
    process.join()


def refused(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    error = capsys.readouterr().err
    assert caught.value.code == USER_ERROR, error
    assert error.count("\n") == 1, error
    return error


def ended(process, log):
    """Exit code and last line of a run that must end by itself."""
    process.join(60)
    return process.exitcode, log.read_text().splitlines()[-1]


def test_a_second_run_in_a_folder_that_is_being_trained(tmp_path, tiny_features, going_on, capsys):
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    error = refused(capsys, tiny_run(tmp_path / "run", tiny_features, seed=7))
    assert f"the run folder {tmp_path / 'run'} is being trained by process {going_on.pid} on " in error
    assert "wait, stop it, or name another with --run-dir" in error
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    going_on.terminate()
    going_on.join(60)
    images = [json.loads(line)["images"] for line in (tmp_path / "run" / "stats.jsonl").open()]
    assert images == sorted(set(images))
    assert not (tmp_path / "run" / ".lock").exists()


def test_after_kill_9_the_same_command_goes_on(tmp_path, tiny_features, going_on):
    going_on.kill()
    going_on.join()
    assert (tmp_path / "run" / ".lock").exists()
    seen = final_state(tmp_path / "run")[1]["images_seen"]
    main(tiny_run(tmp_path / "run", tiny_features, **{**LONG, "schedule__kimg": seen / 1000 + 0.008}))
    assert final_state(tmp_path / "run")[1]["images_seen"] == seen + 8
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_run_folder_that_vanishes_is_not_a_full_disk(how, tmp_path, going_on):
    going_on_folder = tmp_path / "run"
    going_on_folder.rename(tmp_path / "elsewhere")
    if how == "removed":
        shutil.rmtree(tmp_path / "elsewhere")
    code, last = ended(going_on, tmp_path / "log")
    assert code == WRITE_FAILED, last
    assert last.startswith(f"error: the run folder {going_on_folder} was removed or moved while it was being")
    assert "make room" not in last
    assert not list(going_on_folder.glob("checkpoints/*"))
    assert not (going_on_folder / "last").exists()


def test_a_run_whose_folder_another_one_has_taken_ends(tmp_path, going_on):
    (tmp_path / "run" / ".lock").rename(tmp_path / "run" / "away")
    (tmp_path / "run" / ".lock").write_text("{}")
    code, last = ended(going_on, tmp_path / "log")
    assert code == WRITE_FAILED, last
    assert f"{tmp_path / 'run'} is no longer this run's (another process has taken" in last


@pytest.mark.parametrize(
    "settings", [{"data__source": "no/such/folder"}, {"batch__images": 12}, {"start": "nowhere"}]
)
def test_a_start_that_fails_leaves_no_folder_behind(settings, tmp_path, tiny_features, capsys):
    refused(capsys, tiny_run(tmp_path / "runs" / "new", tiny_features, **settings))
    assert not (tmp_path / "runs").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    refused(capsys, tiny_run(tmp_path / "mine", tiny_features, **settings))
    assert (tmp_path / "mine" / "notes.txt").read_text() == "kept"
    assert not (tmp_path / "mine" / ".lock").exists()


def fail_at_first_update(monkeypatch, error):
    def fail(self, batches):
        raise error

    monkeypatch.setattr(Trainer, "update", fail)


@pytest.mark.parametrize("nested", [True, False])
def test_a_first_update_that_fails_leaves_the_folder_as_it_was(
    nested, tmp_path, tiny_features, monkeypatch, capsys
):
    folder = tmp_path / "runs" / "new" if nested else tmp_path / "mine"
    if not nested:
        folder.mkdir()
        (folder / "notes.txt").write_text("kept")
    fail_at_first_update(monkeypatch, ValueError("no such update"))
    refused(capsys, tiny_run(folder, tiny_features))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ([] if nested else ["mine", "notes.txt"])


def test_a_run_whose_next_start_fails_keeps_its_files(tmp_path, tiny_features, monkeypatch, capsys):
    main(tiny_run(tmp_path, tiny_features))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    fail_at_first_update(monkeypatch, ValueError("no such update"))
    refused(capsys, tiny_run(tmp_path, tiny_features, schedule__kimg=1))
    for path, content in before.items():
        assert path.read_bytes() == content, path


def test_a_failed_start_keeps_feature_networks_that_it_trained(tmp_path, tiny_features, monkeypatch, capsys):
    fail_at_first_update(monkeypatch, ValueError("no such update"))
    arguments = ["--config", str(CLASS_DEBUG), "--run-dir", str(tmp_path / "run"), "--log.progress", "false"]
    seconds = ["--conditioning.class_features", "auto:cnn", "--conditioning.feature_seconds", "1"]
    refused(capsys, [*arguments, *seconds])
    assert (tmp_path / "run" / "features" / "cnn" / "config.json").is_file()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["features"]


def test_an_interrupted_start_keeps_trained_feature_networks(tmp_path, tiny_features, monkeypatch):
    fail_at_first_update(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        main(tiny_run(tmp_path / "run", tiny_features))
    assert (tmp_path / "run" / "config.yaml").exists()


def test_a_limit_below_what_is_trained_says_so(tmp_path, tiny_features, caplog, capsys):
    main(tiny_run(tmp_path / "run", tiny_features, schedule__kimg=0.032))
    caplog.set_level("INFO")
    caplog.clear()
    capsys.readouterr()
    main(tiny_run(tmp_path / "run", tiny_features, schedule__kimg=0.008, log__progress="true"))
    assert any(
        "the run has 0.032 kimg and schedule.kimg is 0.008: nothing is left to train" in line
        for line in caplog.messages
    )
    assert "%" not in capsys.readouterr().err
    assert final_state(tmp_path / "run")[1]["images_seen"] == 32


def die_in_the_start():
    """Killed a second after it has begun, while it builds its networks."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.3)


def test_a_run_killed_in_its_start_holds_nothing(tmp_path, tiny_features):
    arguments = tiny_run(tmp_path / "run", tiny_features)
    assert finish(arguments, tmp_path / "log", die_in_the_start) == -signal.SIGALRM
    assert finish(arguments, tmp_path / "log") == 0, (tmp_path / "log").read_text()
