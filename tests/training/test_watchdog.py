"""A run that no longer goes on ends by itself, and says which process hangs and where."""

import sys
import textwrap
import time

import pytest
from crashes import finish
from launches import torchrun
from tiny_runs import tiny_run

from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.parallel import watchdog
from sgxl_t.training.parallel.exit_codes import HANG
from sgxl_t.training.parallel.watchdog import LONG, Beat, Watchdog


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(watchdog, "time", clock)
    return clock


def of_three(tmp_path, *beats):
    """The watchdog of rank 0 that has just heard these (count, doing, long) of three ranks."""
    one = Watchdog(tmp_path, 10.0, rank=0, world_size=3)
    for rank, beat in enumerate(beats):
        one._note(rank, Beat(*beat))
    return one


def test_the_process_that_the_others_wait_for_is_named(tmp_path, clock):
    one = of_three(tmp_path, (24, "update 12, training", False), (23, "update 12, reading pictures", False))
    one._note(2, Beat(24, "update 12, training", False))
    clock.now += 599
    assert one.behind() == []
    clock.now += 2
    assert one.behind() == [1]
    sentence = one.sentence([1])
    assert sentence.startswith("rank 1 of 3 processes hangs, there was no progress for 10 minutes")
    assert "rank 0 was last at: update 12, training; rank 1 was last at: update 12, reading" in sentence
    assert f"{tmp_path}/hang-rank*.txt" in sentence


def test_one_process_speaks_for_all_unless_it_hangs(tmp_path):
    dogs = [Watchdog(tmp_path, 10.0, rank=rank, world_size=3) for rank in range(3)]
    assert [dog._speaks([1]) for dog in dogs] == [True, False, False]
    assert [dog._speaks([0, 1, 2]) for dog in dogs] == [True, False, False]
    assert [dog._speaks([0]) for dog in dogs] == [False, True, True]


def test_a_beat_of_the_last_one_puts_it_off(tmp_path, clock):
    one = of_three(tmp_path, (5, "a", False), (4, "b", False), (5, "a", False))
    clock.now += 500
    one._note(1, Beat(5, "a", False))
    clock.now += 500
    assert one.behind() == []
    clock.now += 101
    assert one.behind() == [0, 1, 2]
    assert "all 3 processes hang at the same place" in one.sentence([0, 1, 2])


def test_the_same_beat_again_is_no_progress(tmp_path, clock):
    one = of_three(tmp_path, (5, "a", False), (4, "b", False), (5, "a", False))
    clock.now += 601
    one._note(1, Beat(4, "b", False))
    assert one.behind() == [1]


def test_long_work_has_its_time_and_does_not_cover_for_others(tmp_path, clock):
    one = of_three(tmp_path, (5, "a snapshot", True), (5, "a snapshot", True), (5, "a snapshot", True))
    clock.now += 600 * LONG - 1
    assert one.behind() == []
    clock.now += 2
    assert one.behind() == [0, 1, 2]
    late = of_three(tmp_path, (5, "a snapshot", True), (4, "update 2, training", False), (5, "", True))
    clock.now += 601
    assert late.behind() == [1]


def test_beats_without_a_watchdog_have_no_effect():
    watchdog.beat("anything")


def test_it_can_be_switched_off_and_not_set_to_nothing(tmp_path):
    assert parse_config(["--schedule.watchdog_minutes", "null"]).schedule.watchdog_minutes is None
    with pytest.raises(ValueError, match=r"schedule\.watchdog_minutes=0"):
        parse_config(["--schedule.watchdog_minutes", "0"])
    with watchdog.watched(tmp_path, None, rank=0, world_size=1):
        assert watchdog._current is None


def hang_in_third_update():
    """The loader gives two batches and then no more."""
    from sgxl_t.datasets.loading.loader import IndexedBatches

    give = IndexedBatches.__next__

    def disk_that_does_not_answer(self):
        if self._first >= 16:
            time.sleep(600)
        return give(self)

    IndexedBatches.__next__ = disk_that_does_not_answer


def test_a_run_that_hangs_ends_and_shows_where(tmp_path, tiny_features):
    settings = {"schedule__kimg": 1, "schedule__watchdog_minutes": 0.1, "log__track_images": 0}
    arguments = tiny_run(tmp_path / "run", tiny_features, **settings)
    log = tmp_path / "log"
    assert finish(arguments, log, hang_in_third_update) == HANG, log.read_text()
    assert "error: this process hangs, there was no progress for 0.1 minutes" in log.read_text()
    assert "it was last at: update 3, reading pictures" in log.read_text()
    assert "disk_that_does_not_answer" in (tmp_path / "run" / "hang-rank0.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_the_rank_that_hangs_is_named(rank, tmp_path, tiny_features):
    script = tmp_path / "hangs.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os
            import sys

            sys.path[:0] = {sys.path!r}
            from sgxl_t.training.train import main
            from test_watchdog import hang_in_third_update

            if os.environ["RANK"] == "{rank}":
                hang_in_third_update()
            main()
            """
        )
    )
    settings = {"schedule__kimg": 1, "schedule__watchdog_minutes": 0.2, "batch__per_device": 4}
    arguments = tiny_run(tmp_path / "run", tiny_features, log__track_images=0, **settings)
    began = time.monotonic()
    result = torchrun(arguments, script=script, timeout=300)
    assert time.monotonic() - began < 290
    assert result.returncode != 0
    sentence = f"error: rank {rank} of 2 processes hangs, there was no progress for 0.2 minutes"
    assert result.stderr.count(sentence) == 1, result.stderr
    assert f"rank {rank} was last at: update 3, reading pictures" in result.stderr
    assert f"rank {1 - rank} was last at: update 3, training" in result.stderr
    assert f"exitcode  : {HANG}" in result.stderr
    stacks = (tmp_path / "run" / f"hang-rank{rank}.txt").read_text()
    assert "disk_that_does_not_answer" in stacks
    assert (tmp_path / "run" / f"hang-rank{1 - rank}.txt").is_file()
