"""Only regular files are opened: pipes and devices neither block nor stream."""

import os

import pytest

from sgxl_t.files.regular import NotRegularError, is_regular, open_regular, read_regular


def test_files_and_links_to_them_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    assert open_regular(tmp_path / "b").read() == b"abc"
    assert read_regular(tmp_path / "a", 3) == b"abc"
    assert is_regular(tmp_path / "b")


def test_pipes_devices_and_folders_are_named_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path, kind in (
        (tmp_path / "link", "a named pipe"),
        ("/dev/zero", "a device"),
        (tmp_path, "a folder"),
    ):
        assert not is_regular(path)
        with pytest.raises(NotRegularError, match=kind):
            open_regular(path)


def test_loops_of_links_and_names_with_a_zero_are_no_files(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert not is_regular(tmp_path / "loop")
    assert not is_regular("a\0b")
    assert not is_regular(tmp_path / "nothing")


def test_more_bytes_than_the_limit_are_not_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    with pytest.raises(ValueError, match="3 bytes, more than the 2"):
        read_regular(tmp_path / "a", 2)
