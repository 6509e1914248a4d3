"""Locks: the second comer is told who holds one, and what killed processes leave stands in nobody's way."""

import contextlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time

import pytest

from sgxl_t.files import lock as lock_file
from sgxl_t.files.lock import LockedError, lock_beside, lock_in, locked

HOLD = "wait, or stop it"
SCRIPT = """
import sys, time
from pathlib import Path
from sgxl_t.files.lock import lock_in, locked
with locked(lock_in(Path(sys.argv[1])), "it is written", "wait"):
    print("held", flush=True)
    time.sleep(60)
"""


def take(path):
    return locked(path, "run folder R is being trained", HOLD)


@pytest.fixture
def holder(tmp_path):
    """A process of its own that holds the lock of tmp_path/run."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_second_comer_is_told_who_holds_it_and_since_when(tmp_path, holder):
    lock = lock_in(tmp_path / "run")
    with pytest.raises(LockedError) as caught, take(lock):
        pass
    since, host = json.loads(lock.read_text())["since"], socket.gethostname()
    who = f"by process {holder.pid} on {host} since {since}"
    assert str(caught.value) == f"run folder R is being trained {who}: {HOLD}"


def test_a_killed_process_holds_nothing_not_even_before_its_parent_has_noticed(tmp_path, holder):
    holder.kill()
    time.sleep(0.2)
    lock = lock_in(tmp_path / "run")
    assert lock.exists()
    with take(lock):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert not lock.exists()


def test_a_number_that_another_process_has_since_is_no_holder(tmp_path, holder):
    lock = lock_in(tmp_path / "run")
    rewrite(lock, started="1")
    with take(lock):
        pass


def test_the_same_process_does_not_hold_one_twice(tmp_path):
    with (
        take(tmp_path / "l"),
        pytest.raises(LockedError, match=f"process {os.getpid()} "),
        take(tmp_path / "l"),
    ):
        pass
    assert not (tmp_path / "l").exists()


def test_a_holder_on_another_machine_shows_itself_by_touching_the_file(tmp_path, holder, monkeypatch):
    lock = lock_in(tmp_path / "run")
    rewrite(lock, machine="other boot", host="node7")
    monkeypatch.setattr(lock_file, "BEAT", 0.1)
    monkeypatch.setattr(lock_file, "PATIENCE", 0.5)
    touches = multiprocessing.get_context("spawn").Process(target=_touch, args=(lock,))
    touches.start()
    try:
        time.sleep(1.5)
        with pytest.raises(LockedError, match=r"by process \d+ on node7"), take(lock):
            pass
    finally:
        touches.kill()
        touches.join()
    with take(lock):  # it has stopped touching it
        pass


def _touch(path):
    while True:
        os.utime(path)
        time.sleep(0.1)


def test_a_holder_touches_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_file, "BEAT", 0.05)
    with take(tmp_path / "l"):
        os.utime(tmp_path / "l", ns=(0, 0))
        time.sleep(0.3)
        assert (tmp_path / "l").stat().st_mtime_ns > 0


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": -1}', b"[" * 5000])
def test_what_a_process_left_that_was_killed_while_it_made_one(content, tmp_path, monkeypatch):
    monkeypatch.setattr(lock_file, "HALF_WRITTEN", 0.2)
    (tmp_path / "l").write_bytes(content)
    with take(tmp_path / "l"):
        assert json.loads((tmp_path / "l").read_text())["pid"] == os.getpid()


def _compete(path, start, winners):
    start.wait()
    try:
        with take(path):
            winners.put(os.getpid())
            time.sleep(1)
    except LockedError:
        pass


def test_of_many_that_find_a_stale_one_one_gets_it(tmp_path, holder):
    lock = lock_in(tmp_path / "run")
    rewrite(lock, started="1")
    context = multiprocessing.get_context("fork")
    start, winners = context.Event(), context.Queue()
    all_of_them = [context.Process(target=_compete, args=(lock, start, winners)) for _ in range(8)]
    for process in all_of_them:
        process.start()
    start.set()
    for process in all_of_them:
        process.join()
        assert process.exitcode == 0
    assert winners.get(timeout=5)
    assert winners.empty()


def test_a_lock_that_went_with_its_folder_or_to_another_is_lost(tmp_path):
    with take(tmp_path / "run" / ".lock") as lock:
        assert lock.lost() is None
        lock.path.unlink()
        assert lock.lost() == f"{lock.path} is gone"
        with take(tmp_path / "run" / ".lock"):
            assert (
                lock.lost() == f"process {os.getpid()} on {socket.gethostname()} has taken {lock.path} over"
            )


def test_giving_a_lost_lock_back_leaves_the_other_ones_alone(tmp_path):
    with contextlib.ExitStack() as first:
        first.enter_context(take(tmp_path / "l")).path.unlink()
        with take(tmp_path / "l"):
            first.close()
            assert (tmp_path / "l").exists()


def test_folders_made_for_a_lock_go_with_it_unless_something_came_into_them(tmp_path):
    with take(tmp_path / "a" / "b" / "l"):
        pass
    assert not (tmp_path / "a").exists()
    with take(tmp_path / "a" / "b" / "l"):
        (tmp_path / "a" / "kept").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]


def test_two_names_of_one_target_have_one_lock(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    assert lock_beside(tmp_path / "link" / "x.zip") == lock_beside(tmp_path / "data" / "x.zip")
    assert lock_beside(tmp_path / "link") == tmp_path / ".data.lock"


def test_what_is_no_file_is_named_and_links_are_not_followed(tmp_path):
    (tmp_path / "l").mkdir()
    with pytest.raises(ValueError, match="is not a file: remove it"), take(tmp_path / "l"):
        pass
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "link").symlink_to("victim")
    with pytest.raises(OSError, match="symbolic link"), take(tmp_path / "link"):
        pass
    assert (tmp_path / "victim").read_text() == "kept"
