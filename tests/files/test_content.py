import hashlib
import logging
import multiprocessing
import os
import time

import pytest

from sgxl_t.files import content
from sgxl_t.files.content import UNREADABLE, file_hash, file_hashes, file_state


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """Where hashes are remembered: from the first file on here, and without waiting for clocks."""
    monkeypatch.setenv("SGXL_T_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "WORTH_FILES", 1)
    monkeypatch.setattr(content, "SETTLED_SECONDS", -1)
    return tmp_path / "cache" / "contents"


@pytest.fixture
def hashed(monkeypatch):
    """Paths of the files that are read."""
    seen, whole = [], content._hash_file
    monkeypatch.setattr(content, "_hash_file", lambda path, tell: seen.append(path) or whole(path, tell))
    return seen


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in files]


def test_hashes_are_those_of_the_bytes_and_made_once(tmp_path, hashed):
    paths = write(tmp_path / "d", a="one", b="two", c="")
    wanted = [hashlib.sha256(text).digest() for text in (b"one", b"two", b"")]
    assert file_hashes(paths, name="d") == wanted
    assert file_hashes(paths, name="d") == wanted
    assert hashed == paths
    assert file_hashes([*paths, paths[0]], name="d")[-1] == wanted[0]
    write(tmp_path / "d", b="2!!")
    assert file_hashes(paths, name="d") != wanted
    assert hashed == [*paths, paths[1]], "one file is new"


def test_a_replaced_file_of_equal_size_and_time_is_seen(tmp_path):
    (path,) = write(tmp_path, a="one")
    before, times = file_hash(path), os.stat(path)
    with open(path, "r+") as file:
        file.write("two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = os.stat(path)
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (times.st_mtime_ns, 3, times.st_ino)
    assert file_hash(path) == hashlib.sha256(b"two").digest() != before


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path, monkeypatch, hashed):
    monkeypatch.setattr(content, "SETTLED_SECONDS", 10)
    (path,) = write(tmp_path, a="one")
    file_hash(path)
    file_hash(path)
    assert len(hashed) == 2
    monkeypatch.setattr(content, "SETTLED_SECONDS", 0)
    time.sleep(0.05)
    file_hash(path)
    file_hash(path)
    assert len(hashed) == 3


def test_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path):
    (path,) = write(tmp_path, a="x" * 100)

    def meddle(_):
        with open(path, "r+b") as file:
            file.write(b"y")

    digest, key = content._hash_file(path, meddle)
    assert (digest, key) == (hashlib.sha256(b"x" * 100).digest(), b"")
    assert content._hash_file(path, lambda _: None)[1]


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "name"])
def test_what_is_no_file_has_a_hash_of_its_own(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    assert file_hash("\0" if kind == "name" else path) == UNREADABLE


def test_files_with_names_of_no_encoding_are_hashed(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"\xff.png")
    with open(path, "wb") as file:
        file.write(b"one")
    assert file_hash(os.fsdecode(path)) == hashlib.sha256(b"one").digest()


@pytest.mark.parametrize("damage", [b"", b"nothing", None])
def test_a_damaged_memory_is_named_and_made_again(tmp_path, memory, damage, hashed, caplog):
    (path,) = write(tmp_path, a="one")
    file_hash(path)
    (stored,) = memory.iterdir()
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + b"\0" if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        assert file_hash(path) == hashlib.sha256(b"one").digest()
    assert len(hashed) == 2
    assert str(stored) in caplog.text
    assert stored.read_bytes() == whole


def test_small_sets_leave_nothing_behind(tmp_path, monkeypatch, memory):
    monkeypatch.setattr(content, "WORTH_FILES", 1000)
    file_hash(*write(tmp_path, a="one"))
    assert not memory.exists()


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path, memory, caplog):
    (tmp_path / "cache").write_text("a file in the way")
    assert file_hash(*write(tmp_path, a="one")) == hashlib.sha256(b"one").digest()
    assert "could not be remembered" in caplog.text


def test_the_sets_used_longest_ago_are_forgotten(tmp_path, memory, monkeypatch):
    for number in range(4):
        (path,) = write(tmp_path, **{f"f{number}": str(number)})
        file_hash(path)
        time.sleep(0.01)
    file_hash(tmp_path / "f0")  # used again
    time.sleep(0.01)
    size = next(memory.iterdir()).stat().st_size
    monkeypatch.setattr(content, "MAX_MEMORY_BYTES", 3 * size)
    (path,) = write(tmp_path, f9="9")
    file_hash(path)
    assert len(list(memory.iterdir())) == 3
    hits = [content._Memory(str(tmp_path / name)).path.exists() for name in ("f0", "f1", "f2", "f3", "f9")]
    assert hits == [True, False, False, True, True]


def test_several_processes_hash_one_set_at_once(tmp_path):
    paths = write(tmp_path / "d", **{f"{number}": "x" * number for number in range(200)})
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.starmap(_hash_named, [(paths,)] * 8)
    assert all(hashes == found[0] for hashes in found)
    assert found[0][5] == hashlib.sha256(b"xxxxx").digest()
    assert file_hashes(paths, name="d") == found[0]


def _hash_named(paths):
    return file_hashes(paths, name="d")


def test_a_stop_keeps_what_was_hashed(tmp_path, monkeypatch, hashed):
    paths = write(tmp_path / "d", a="one", b="two", c="three")
    monkeypatch.setattr(content, "_SLICE", 1)
    whole = content._hash_file

    def stops(path, tell):
        if path.endswith("c"):
            raise KeyboardInterrupt
        return whole(path, tell)

    with monkeypatch.context() as stopping:
        stopping.setattr(content, "_hash_file", stops)
        with pytest.raises(KeyboardInterrupt):
            file_hashes(paths, name="d")
    hashed.clear()
    file_hashes(paths, name="d")
    assert hashed == [paths[2]]


def test_the_state_of_a_file_follows_what_happens_to_it(tmp_path):
    (path,) = write(tmp_path, a="one")
    before = file_state(path)
    assert file_state(path) == before
    os.utime(path, ns=(0, 0))
    assert file_state(path) != before
    os.unlink(path)
    assert file_state(path) == b""
