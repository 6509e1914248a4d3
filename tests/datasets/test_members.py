"""Which members of folders and archives are nobody's data."""

import pytest

from sgxl_t.datasets.images.members import is_system


@pytest.mark.parametrize(
    "name",
    [
        "__MACOSX/photos/._1.png",
        "photos/._1.png",
        ".DS_Store",
        "a/.DS_Store",
        "Thumbs.db",
        "a/thumbs.db",
        "Desktop.ini",
        "@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
        "a/.ipynb_checkpoints/1-checkpoint.png",
        ".git/config",
        "a\\Thumbs.db",
        "a/1.png:Zone.Identifier",
        "$RECYCLE.BIN/1.png",
        "Icon\r",
    ],
)
def test_what_systems_leave_is_known(name):
    assert is_system(name)


@pytest.mark.parametrize(
    "name", ["1.png", "./1.png", "a/b.c.png", "../1.png", "macosx/1.png", "thumbs/1.png"]
)
def test_other_names_are_data(name):
    assert not is_system(name)
