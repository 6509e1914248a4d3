"""Loader processes that are killed or hang: what they read comes all the same, once and in order."""

import itertools
import multiprocessing
import os
import signal
import threading
import time

import pytest
import torch

from sgxl_t.datasets.loading import workers
from sgxl_t.datasets.loading.loader import batches
from sgxl_t.datasets.loading.options import BatchOptions
from sgxl_t.datasets.open import open_source


@pytest.fixture(scope="module")
def digits():
    return open_source("digits", resolution=8)


def end_processes():
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


@pytest.fixture(autouse=True)
def no_process_is_left_to_the_next_test():
    end_processes()  # those of loaders that tests of other files left to the garbage collector
    yield
    end_processes()


def expected(source, count):
    return list(itertools.islice(batches(source, BatchOptions(batch_size=4, seed=3)), count))


def assert_equal(taken, wanted):
    assert len(taken) == len(wanted)
    for one, other in zip(taken, wanted, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def processes():
    return [child.pid for child in multiprocessing.active_children()]


def signalled(loader, number, of=0):
    """Sends a signal to one of the loader's processes and waits until it has had its effect."""
    pid = processes()[of]
    os.kill(pid, number)
    limit = time.monotonic() + 10
    while number == signal.SIGKILL and pid in processes() and time.monotonic() < limit:
        time.sleep(0.01)


@pytest.mark.parametrize("of", [0, 1])
def test_a_killed_process_is_replaced_and_named(of, digits, caplog):
    loader = batches(digits, BatchOptions(batch_size=4, seed=3, num_workers=2))
    taken = [next(loader) for _ in range(3)]
    signalled(loader, signal.SIGKILL, of)
    taken += [next(loader) for _ in range(6)]
    assert_equal(taken, expected(digits, 9))
    assert "a loader process was killed by SIGKILL" in caplog.text
    assert "time 1 of 3" in caplog.text
    loader.close()
    assert processes() == []


def test_its_death_interrupts_nothing_but_the_wait_for_a_batch(digits):
    """Torch alone would raise at once, wherever the main thread is."""
    loader = batches(digits, BatchOptions(batch_size=4, seed=3, num_workers=1))
    next(loader)
    signalled(loader, signal.SIGKILL)
    for _ in range(1000):
        time.sleep(0.0001)
    next(loader)
    loader.close()


def test_a_process_killed_while_a_batch_is_awaited(digits, monkeypatch):
    slow = type(digits).__getitem__
    monkeypatch.setattr(type(digits), "__getitem__", lambda *given: time.sleep(0.2) or slow(*given))
    loader = batches(digits, BatchOptions(batch_size=2, seed=3, num_workers=1))
    killer = threading.Timer(0.5, lambda: os.kill(processes()[0], signal.SIGKILL))
    killer.start()
    taken = [next(loader) for _ in range(3)]
    killer.join()
    loader.close()
    monkeypatch.undo()
    assert_equal(taken, list(itertools.islice(batches(digits, BatchOptions(batch_size=2, seed=3)), 3)))


@pytest.mark.parametrize("count", [1, 2])
def test_processes_that_hang_are_replaced(count, digits, monkeypatch, caplog):
    monkeypatch.setattr(workers, "HUNG_SECONDS", 2)
    loader = batches(digits, BatchOptions(batch_size=4, seed=3, num_workers=count))
    taken = [next(loader)]
    for number in range(count):
        signalled(loader, signal.SIGSTOP, number)
    taken += [next(loader) for _ in range(5)]
    assert_equal(taken, expected(digits, 6))
    assert "gave nothing for 2 seconds" in caplog.text
    loader.close()
    assert processes() == []


def fall_silent_and_die():
    os.closerange(3, 1024)
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


class Silent(workers.Restarting[int]):
    """Hands on 7, after a process that ended amid its handing over."""

    def _open(self):
        if self._restarts:
            return [7]
        multiprocessing.get_context("fork").Process(target=fall_silent_and_die).start()
        return map(self.fail, [7])

    def fail(self, _):
        raise EOFError


def test_a_process_whose_pipes_close_before_it_is_dead_is_named(caplog):
    silent = Silent()
    assert silent._next() == 7
    assert "a loader process was killed by SIGKILL" in caplog.text
    silent.close()


def test_the_fourth_death_ends_it_with_a_sentence(digits):
    loader = batches(digits, BatchOptions(batch_size=4, seed=3, num_workers=1))
    for _ in range(workers.RESTARTS):
        next(loader)
        signalled(loader, signal.SIGKILL)
    next(loader)
    signalled(loader, signal.SIGKILL)
    with pytest.raises(ValueError, match=r"failed 4 times .*SIGKILL.* data\.num_workers"):
        next(loader)
    assert processes() == []
    with pytest.raises(StopIteration):
        next(loader)


def test_mistakes_in_the_data_arrive_as_sentences(tmp_path):
    from PIL import Image

    for number in range(4):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{number}.png")
    source = open_source(tmp_path, resolution=8)
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"no picture")
    loader = batches(source, BatchOptions(batch_size=2, seed=0, num_workers=1))
    with pytest.raises(ValueError, match="rejected") as caught:
        next(loader)
    assert "\n" not in str(caught.value)
    loader.close()


def test_ctrl_c_is_left_to_the_training_process(digits):
    loader = batches(digits, BatchOptions(batch_size=4, seed=3, num_workers=1))
    next(loader)
    before = processes()
    os.kill(before[0], signal.SIGINT)
    taken = [next(loader) for _ in range(4)]
    assert processes() == before
    loader.close()
    assert_equal(taken, expected(digits, 5)[1:])
