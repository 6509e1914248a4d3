"""kill -9 at any moment, then the same command: the run ends as if nothing had happened, bit for bit."""

import functools
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from crashes import SAVING, assert_same_run, die_saving, final_state, finish, processes_with, start
from launches import MODES, ROOT
from tiny_runs import tiny_run

from sgxl_t.training.checkpoint import run_folder
from sgxl_t.training.checkpoint.run_folder import prepare_folder

QUICK = {
    "deterministic": "true",
    "schedule__kimg": 0.048,
    "schedule__checkpoint_kimg": 0.008,
    "schedule__snapshot_kimg": 0.016,
}
LONG = {**QUICK, "schedule__kimg": 0.72, "schedule__checkpoint_kimg": 0.024, "schedule__snapshot_kimg": 0.048}


def unbroken(tmp_path, features, settings):
    """Folder of the run that nobody disturbed."""
    assert finish(tiny_run(tmp_path / "unbroken", features, **settings), tmp_path / "unbroken.log") == 0
    return tmp_path / "unbroken"


def kill_while_saving(tmp_path, features, moments, number):
    """number: which checkpoint of each start is not finished; there are older ones to lose."""
    arguments, log = tiny_run(tmp_path / "run", features, **QUICK), tmp_path / "run.log"
    for moment in moments:
        killed = functools.partial(die_saving, moment, number)
        assert finish(arguments, log, killed) == -signal.SIGKILL, log.read_text()
    assert finish(arguments, log) == 0, log.read_text()
    assert_same_run(tmp_path / "run", unbroken(tmp_path, features, QUICK))


def test_killed_three_times_while_it_writes_checkpoints(tmp_path, tiny_features):
    kill_while_saving(tmp_path, tiny_features, ("tensors", "rename", "removal"), 2)


@pytest.mark.slow
def test_killed_at_every_moment_of_writing_a_checkpoint(tmp_path, tiny_features):
    for moment in SAVING:
        (tmp_path / moment).mkdir()
        kill_while_saving(tmp_path / moment, tiny_features, (moment,), 3)


def newest(run):
    return max((run / "checkpoints").glob("kimg_*"), default=None)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_twenty_times_at_random(seed, tmp_path, tiny_features):
    """Eight times within a start, twelve times between a new checkpoint and the one after the next."""
    run, log = tmp_path / "run", tmp_path / "run.log"
    draw, reached = random.Random(seed), set()
    for in_start in draw.sample([True] * 8 + [False] * 12, 20):
        before, process = newest(run), start(tiny_run(run, tiny_features, **LONG), log)
        while not in_start and process.is_alive() and newest(run) == before:
            time.sleep(0.002)
        process.join(draw.uniform(0, 3) if in_start else draw.uniform(0, 0.15))
        process.kill()
        process.join()
        reached.add(newest(run))
    assert finish(tiny_run(run, tiny_features, **LONG), log) == 0, log.read_text()
    assert len(reached) > 4, "the run was hardly ever killed in the middle"
    assert_same_run(run, unbroken(tmp_path, tiny_features, LONG))


@pytest.mark.slow
def test_two_processes_killed_at_once(tmp_path, tiny_features):
    settings = {**QUICK, "batch__per_device": 4, "schedule__kimg": 0.16, "schedule__snapshot_kimg": 0.08}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **MODES["ddp"]}

    def begin(folder):
        arguments = [*command, "scripts/train.py", *tiny_run(folder, tiny_features, **settings)]
        return subprocess.Popen(arguments, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)

    run, expected = tmp_path / "run", tmp_path / "unbroken"
    assert begin(expected).wait(timeout=300) == 0
    killed = begin(run)
    limit = time.monotonic() + 120
    while len(list((run / "checkpoints").glob("kimg_*"))) < 2 and time.monotonic() < limit:
        time.sleep(0.01)
    for pid in processes_with(str(run)):
        os.kill(pid, signal.SIGKILL)
    killed.wait()
    assert 0 < final_state(run)[1]["images_seen"] < 160
    assert begin(run).wait(timeout=300) == 0
    assert_same_run(run, expected)


def test_best_is_back_after_a_kill_between_two_renames(tmp_path, tiny_features, monkeypatch):
    """As where the file system cannot swap folders, and the process was killed before the second rename."""
    from sgxl_t.training.config.config_file import parse_config
    from sgxl_t.training.train import main

    arguments = tiny_run(tmp_path / "run", tiny_features)
    main(arguments)
    best = tmp_path / "run" / "best"
    weights = (best / "generator.safetensors").read_bytes()
    best.rename(best.with_name(".best.old-12ab34cd"))
    best.with_name(".best.writing-12ab34cd").mkdir()
    (tmp_path / "run" / "checkpoints" / ".kimg_1.writing-12ab34cd").mkdir()
    monkeypatch.setattr(run_folder, "environment", lambda _seed: {})
    prepare_folder(tmp_path / "run", parse_config(arguments).to_dict())
    assert (best / "generator.safetensors").read_bytes() == weights
    assert not [*(tmp_path / "run").glob(".*"), *(tmp_path / "run" / "checkpoints").glob(".*")]
