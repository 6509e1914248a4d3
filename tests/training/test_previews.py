"""Between snapshots a run shows samples and model by time and when it is stopped, and trains as without."""

import logging

import pytest
from crashes import assert_same_run
from launches import torchrun
from tiny_runs import tiny_run

from sgxl_t.cli.main import main as sgxl_t
from sgxl_t.model_io.model_folder import read_info
from sgxl_t.model_io.run_model import model_in
from sgxl_t.training.loop import preview_clock
from sgxl_t.training.loop.preview_clock import PreviewClock
from sgxl_t.training.train import main

ALWAYS = {"schedule__snapshot_minutes": 1e-9}
LONG = {"schedule__kimg": 100, "schedule__snapshot_kimg": 100}


def stopped(folder, features, **settings):
    """A run that its time limit stops after its first update."""
    with pytest.raises(SystemExit):
        main(tiny_run(folder, features, schedule__max_minutes=1e-9, **settings))
    return folder


@pytest.mark.parametrize(("cond", "generator"), [("class", "stylegan3"), ("text", "stylegan_t")])
def test_previews_do_not_change_training(tmp_path, tiny_features, caplog, cond, generator):
    kind = {"cond": cond, "generator": generator, "deterministic": "true", "schedule__kimg": 0.032}
    with caplog.at_level(logging.INFO):
        main(tiny_run(tmp_path / "with", tiny_features, **kind, **ALWAYS))
    assert caplog.text.count("preview in") == 2, "at every update without a snapshot"
    main(tiny_run(tmp_path / "without", tiny_features, **kind, schedule__snapshot_minutes="null"))
    runs = [tmp_path / "with", tmp_path / "without"]
    assert_same_run(*runs)
    assert len({(run / "best" / "generator.safetensors").read_bytes() for run in runs}) == 1
    grids, without = [sorted(path.name for path in (run / "samples").glob("*.png")) for run in runs]
    assert (
        grids
        == without
        == [
            "fakes_000000.016.png",
            "fakes_000000.032.png",
            "nearest.png",
            "reals.png",
        ]
    )


def test_a_run_that_is_stopped_early_can_be_sampled(tmp_path, tiny_features, capsys):
    run = stopped(tmp_path / "run", tiny_features, **LONG)
    assert {"last", "samples", "report.html"} <= {path.name for path in run.iterdir()}
    assert not (run / "best").exists(), "nothing was measured"
    assert [path.name for path in (run / "samples").glob("*_*.png")] == ["preview_000000.008.png"]
    assert "preview_000000.008" in (run / "report.html").read_text()
    assert read_info(run / "last").provenance["kimg"] == 0.008
    with pytest.raises(SystemExit, match="0"):
        sgxl_t(["sample", "--model", str(run), "--class", "0", "--out", str(tmp_path / "a.png")])
    assert "taking its model" in capsys.readouterr().err
    assert (tmp_path / "a.png").is_file()


def test_the_next_snapshot_takes_the_place_of_a_preview(tmp_path, tiny_features):
    run = stopped(tmp_path / "run", tiny_features, **LONG)
    main(tiny_run(run, tiny_features))
    assert [path.name for path in (run / "samples").glob("*_*.png")] == ["fakes_000000.016.png"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_two_processes_make_previews_together(tmp_path, tiny_features, mode):
    settings = {"schedule__kimg": 0.048, "batch__per_device": 4, "log__track_images": 0}
    limit = {**settings, **LONG, "schedule__max_minutes": 1e-9}
    runs = [tmp_path / "with", tmp_path / "without"]
    for run, minutes in zip(runs, (1e-9, "null"), strict=True):
        kind = {
            "deterministic": "true",
            "schedule__snapshot_kimg": 0.048,
            "schedule__snapshot_minutes": minutes,
        }
        done = torchrun(tiny_run(run, tiny_features, **settings, **kind), mode=mode)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("preview in") == (4 if run.name == "with" else 0), "an update later"
    assert_same_run(*runs)
    done = torchrun(tiny_run(tmp_path / "cut", tiny_features, **limit), mode=mode)
    assert "stopped at" in done.stderr, done.stderr
    assert model_in(tmp_path / "cut") == tmp_path / "cut" / "last"


def test_previews_are_spaced_by_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(preview_clock.time, "monotonic", lambda: now[0])

    def due(clock, seconds):
        now[0] = seconds
        return clock.is_due()

    clock = PreviewClock(10)
    assert [due(clock, second) for second in (29, 31, 32, 630, 632)] == [False, True, False, False, True]
    clock.start()
    assert [due(clock, second) for second in (1231, 1233)] == [False, True]
    never = PreviewClock(None)
    assert not due(never, 1e6)
