"""Files and folders appear whole or not at all, and a kill in between is repaired."""

import os
import signal

import pytest

from sgxl_t.files import whole
from sgxl_t.files.whole import name_aside, put_back, whole_file, whole_folder


def fill(folder, text):
    with whole_folder(folder, mark="mark") as aside:
        (aside / "mark").write_text(text)


def fill_half(whole, target):
    with whole as aside:
        (aside / "mark" if target.is_dir() else aside).write_text("half")
        raise RuntimeError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("swaps", [True, False])
def test_a_folder_is_replaced_whole(swaps, tmp_path, monkeypatch):
    if not swaps:
        monkeypatch.setattr(whole, "_exchange", lambda *_: False)
    fill(tmp_path / "best", "old")
    (tmp_path / "best" / "more").write_text("of the old one")
    fill(tmp_path / "best", "new")
    assert names(tmp_path) == ["best"]
    assert names(tmp_path / "best") == ["mark"]
    assert (tmp_path / "best" / "mark").read_text() == "new"


@pytest.mark.parametrize("swaps", [True, False])
def test_an_error_leaves_the_old_folder(swaps, tmp_path, monkeypatch):
    if not swaps:
        monkeypatch.setattr(whole, "_exchange", lambda *_: False)
    fill(tmp_path / "best", "old")
    with pytest.raises(RuntimeError):
        fill_half(whole_folder(tmp_path / "best", mark="mark"), tmp_path / "best")
    assert names(tmp_path) == ["best"]
    assert (tmp_path / "best" / "mark").read_text() == "old"


def test_the_swap_leaves_no_instant_without_the_folder(tmp_path):
    """Where it is supported, which the temporary folder of these tests tells."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not whole._exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("the file system of the temporary folder cannot swap folders")
    assert names(tmp_path / "one") == ["other"]
    assert names(tmp_path / "other") == ["one"]


@pytest.mark.parametrize("call", [1, 2])
def test_a_kill_at_a_rename_is_repaired(call, tmp_path, monkeypatch):
    fill(tmp_path / "best", "old")
    monkeypatch.setattr(whole, "_exchange", lambda *_: False)
    child = os.fork()
    if child == 0:
        rename, calls = os.rename, [0]

        def killed(*given):
            calls[0] += 1
            if calls[0] == call:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(*given)

        os.rename = killed
        fill(tmp_path / "best", "new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (tmp_path / "best").exists() == (call == 1)
    back = put_back(tmp_path)
    assert back == ([] if call == 1 else [tmp_path / "best"])
    assert names(tmp_path) == ["best"]
    assert (tmp_path / "best" / "mark").read_text() == "old"


def test_only_leftovers_are_removed(tmp_path):
    for name in ("notes.tmp", ".git", ".hidden", "old-3", ".config.yaml"):
        (tmp_path / name).mkdir()
    for name in (".best.writing-01ab23cd", ".best.old-7"):
        (tmp_path / name).mkdir()
    (tmp_path / "best").mkdir()
    name_aside(tmp_path / "a1.npz").touch()
    assert put_back(tmp_path) == []
    assert names(tmp_path) == [".config.yaml", ".git", ".hidden", "best", "notes.tmp", "old-3"]
    assert put_back(tmp_path / "nowhere") == []


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        fill_half(whole_file(path), path)
    assert (names(tmp_path), path.read_text()) == (["state.json"], "old")
    with whole_file(path) as aside:
        aside.write_text("new")
    assert (names(tmp_path), path.read_text()) == (["state.json"], "new")
