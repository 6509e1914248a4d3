"""A disk that fills up: one sentence, nothing half, a whole checkpoint, and the same command goes on."""

import errno
import os
import shutil
import subprocess
import textwrap

import pytest
from crashes import assert_same_run, final_state, leftovers
from launches import torchrun
from safetensors import SafetensorError
from tiny_runs import tiny_run

from sgxl_t.training.callbacks import best, sample_grid, tracked_metrics, tracking
from sgxl_t.training.checkpoint import checkpoint
from sgxl_t.training.checkpoint.disk import WriteError, error_number, is_full, refusal
from sgxl_t.training.parallel.exit_codes import WRITE_FAILED
from sgxl_t.training.train import main

MEGABYTES = 50
RUN = {"deterministic": "true", "schedule__snapshot_kimg": 0.008}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 50 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)  # tensors of it may still be mapped


def fails(capsys, arguments):
    """The one sentence with which a run ends that cannot write."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    error = capsys.readouterr().err
    assert caught.value.code == WRITE_FAILED, error
    assert error.count("\n") == 1, error
    return error


def used_by(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def leave_free(place, count):
    """A file that takes everything but so many bytes."""
    ballast = place / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(place).free - count))
    return ballast


def test_a_file_system_that_fills_up_during_a_checkpoint(small_disk, tmp_path, tiny_features, capsys):
    run, settings = small_disk / "run", {**RUN, "schedule__checkpoint_kimg": 0.008}
    main(tiny_run(tmp_path / "quiet", tiny_features, schedule__kimg=0.032, **settings))
    main(tiny_run(run, tiny_features, schedule__kimg=0.016, **settings))
    newest = run / "checkpoints" / "kimg_0000000.016"
    # All that a start and a snapshot write fits, and half of a checkpoint.
    room = 2 * used_by(run / "best") + used_by(run / "samples") + used_by(newest) // 2
    ballast = leave_free(small_disk, room)
    before = {path: path.read_bytes() for path in newest.rglob("*") if path.is_file()}
    error = fails(capsys, tiny_run(run, tiny_features, schedule__kimg=0.032, **settings))
    assert f"error: {run} cannot be written for a checkpoint (No space left on device, " in error
    assert "MB are needed" in error
    assert "its newest whole checkpoint is at 0.016 kimg" in error
    assert {path: path.read_bytes() for path in before} == before
    assert leftovers(run) == []
    assert (run / "best" / "config.json").is_file()
    ballast.unlink()
    main(tiny_run(run, tiny_features, schedule__kimg=0.032, **settings))
    assert_same_run(run, tmp_path / "quiet")


def test_a_file_system_that_is_full_from_the_start(small_disk, tmp_path, tiny_features, capsys):
    run = small_disk / "run"
    main(tiny_run(tmp_path / "quiet", tiny_features, schedule__kimg=0.032, **RUN))
    main(tiny_run(run, tiny_features, schedule__kimg=0.016, **RUN))
    ballast = leave_free(small_disk, 0)
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    error = fails(capsys, tiny_run(run, tiny_features, schedule__kimg=0.032, **RUN))
    assert "cannot be written for its configuration (No space left on device, 0.0 MB are free)" in error
    assert "at 0.016 kimg" in error
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files
    ballast.unlink()
    main(tiny_run(run, tiny_features, schedule__kimg=0.032, **RUN))
    assert_same_run(run, tmp_path / "quiet")


def no_room(*_given, **_named):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_room_for_tensors(*_given, **_named):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


WRITES = {
    "a checkpoint": (checkpoint, "write_tensors", no_room_for_tensors),
    "a snapshot": (best, "save_model", no_room_for_tensors),
    "the numbers of a tick": (tracking.Tracker, "on_numbers", no_room),
    "its records": (sample_grid, "save_grid", no_room),
    "the report": (tracking.Tracker, "on_end", no_room),
}


@pytest.mark.parametrize("what", WRITES)
def test_whatever_cannot_be_written_ends_the_run_in_order(what, tmp_path, tiny_features, capsys, monkeypatch):
    run = tmp_path / "run"
    main(tiny_run(run, tiny_features, schedule__kimg=0.016, **RUN))
    with monkeypatch.context() as patch:
        patch.setattr(*WRITES[what])
        error = fails(capsys, tiny_run(run, tiny_features, schedule__kimg=0.024, **RUN))
    assert f"cannot be written for {what} (No space left on device" in error
    assert f"at {0.024 if what == 'the report' else 0.016} kimg" in error
    assert leftovers(run) == []
    main(tiny_run(run, tiny_features, schedule__kimg=0.032, **RUN))
    assert final_state(run)[1]["images_seen"] == 32


def test_tensorboard_that_cannot_write(tmp_path, tiny_features, capsys, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    monkeypatch.setattr(SummaryWriter, "add_image", no_room)
    error = fails(capsys, tiny_run(tmp_path / "run", tiny_features, log__tensorboard="true", **RUN))
    assert "cannot be written for a snapshot" in error
    assert "it has no checkpoint yet" in error


def test_a_first_checkpoint_that_finds_no_room(tmp_path, tiny_features, capsys, monkeypatch):
    monkeypatch.setattr(tracked_metrics.TrackedMetrics, "on_snapshot", lambda *_: None)
    monkeypatch.setattr(checkpoint, "_fingerprint", no_room)
    settings = {"schedule__snapshot_kimg": 100, "schedule__checkpoint_kimg": 0.008}
    error = fails(capsys, tiny_run(tmp_path / "run", tiny_features, **settings))
    assert "it has no checkpoint yet" in error
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_what_the_system_says_is_found_in_every_error(tmp_path):
    full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    copied = shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")])
    assert error_number(full) == error_number(copied) == errno.ENOSPC
    assert is_full(OSError(errno.EDQUOT, "quota"))
    assert not is_full(SafetensorError("invalid header"))
    assert not is_full(FileNotFoundError(errno.ENOENT, "gone"))
    assert refusal(ValueError("28"), tmp_path) is None
    assert refusal(OSError(errno.EIO, "broken", "/elsewhere/x"), tmp_path) is None
    assert refusal(OSError(errno.EIO, "broken", str(tmp_path / "x")), tmp_path).startswith("Input/output")
    needed = refusal(WriteError(errno.ENOSPC, "", 3_500_000_000), tmp_path / "not" / "there")
    assert needed.startswith("No space left on device, 3.5 GB are needed, ")


@pytest.mark.slow
def test_two_processes_end_together(tmp_path, tiny_features):
    """Only the main process writes; the other one must not wait for it for ever."""
    script = tmp_path / "full.py"
    script.write_text(
        textwrap.dedent(
            """
            import errno
            from sgxl_t.training.checkpoint import checkpoint
            from sgxl_t.training.train import main

            def no_room(*given):
                raise OSError(errno.ENOSPC, "No space left on device")

            checkpoint._fingerprint = no_room
            main()
            """
        )
    )
    arguments = tiny_run(tmp_path / "run", tiny_features, batch__per_device=4)
    result = torchrun(arguments, script=script, timeout=120)
    assert result.returncode != 0
    assert result.stderr.count("cannot be written for a checkpoint") == 1, result.stderr
    assert f"exitcode  : {WRITE_FAILED}" in result.stderr
