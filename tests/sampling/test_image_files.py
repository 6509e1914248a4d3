import os

import numpy as np
import pytest
from PIL import Image

from sgxl_t.sampling.output.grid import labelled_grid
from sgxl_t.sampling.output.image_files import check_writable, image_names, save_png


def test_names_read_like_the_prompt():
    assert image_names(["A red fox, in snow."]) == {"A red fox, in snow.": "a-red-fox-in-snow"}
    assert image_names(["t-shirt", "9"]) == {"t-shirt": "t-shirt", "9": "9"}
    assert image_names(["a red fox", "t-shirt"], exact=True) == {
        "a red fox": "a-red-fox",
        "t-shirt": "t-shirt",
    }


@pytest.mark.parametrize(
    "prompt", ["../../etc/passwd", "C++", "a/b", "\u96ea\u306e\u72d0", "x" * 500, "...", "con\x00"]
)
def test_names_are_plain_on_every_system(prompt):
    name = image_names([prompt])[prompt]
    assert name.isascii()
    assert name.replace("-", "").isalnum()
    assert len(name) < 100


def test_prompts_never_share_a_name():
    prompts = ["a fox", "A fox", "a  fox", "a fox!", "C", "C++", "x" * 100, "x" * 101, "\u96ea", "\u72d0"]
    assert len(set(image_names(prompts).values())) == len(prompts)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a fox", "A fox"), ("a fox", "a fox."), ("a, b", "a b"), ("x" * 99, "x" * 98), ("caf\u00e9", "cafe")],
)
def test_prompts_of_two_calls_share_no_name_on_any_system(one, other):
    names = [image_names([prompt], exact=True)[prompt].lower() for prompt in (one, other)]
    assert names[0] != names[1]


def test_picture_is_written_whole_and_nothing_else(tmp_path):
    path = save_png(Image.new("RGB", (4, 4), (1, 2, 3)), tmp_path / "new" / "a.png")
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"]
    assert Image.open(path).getpixel((0, 0)) == (1, 2, 3)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_writing_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch, error):
    path = save_png(Image.new("RGB", (4, 4)), tmp_path / "a.png")
    before = path.read_bytes()

    def stop(self, stream, **_):
        stream.write(b"half")
        raise error

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(error):
        save_png(Image.new("RGB", (4, 4), (9, 9, 9)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nowhere/out"):
        with pytest.raises(ValueError, match="cannot be written"):
            check_writable(folder)
    with pytest.raises(ValueError, match="is a folder: name a file"):
        save_png(Image.new("RGB", (4, 4)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_one_sentence(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="cannot be written"):
        check_writable(tmp_path / "out")


def test_grid_shows_every_picture_in_its_place_between_labels():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)]
    images = [Image.new("RGB", (32, 32), colour) for colour in colours]
    sheet = np.asarray(labelled_grid(images, ["a red fox in snow", "a car"], ["seed 0", "seed 1", "seed 2"]))
    centres = []
    for colour in colours:
        rows, columns = np.nonzero((sheet == colour).all(axis=2))
        assert len(rows) == 96 * 96
        centres.append((rows.mean(), columns.mean()))
    assert centres == sorted(centres)
    assert (sheet[:, : int(centres[0][1]) - 48] < 100).all(axis=2).any(), "row labels stand on the left"
    assert (sheet[: int(centres[0][0]) - 48] < 100).all(axis=2).any(), "column labels stand on top"


def test_grid_keeps_large_pictures_as_they_are_and_survives_long_labels():
    image = Image.effect_noise((128, 128), 50).convert("RGB")
    sheet = np.asarray(labelled_grid([image], ["word " * 500], ["seed " + "9" * 40]))
    assert sheet.shape[0] < 200
    assert (sheet[-8 - 4 - 128 : -8 - 4, -8 - 4 - 128 : -8 - 4] == np.asarray(image)).all()


def test_grid_beyond_the_size_limit_is_one_sentence():
    with pytest.raises(ValueError, match="ask for fewer"):
        labelled_grid([Image.new("RGB", (8, 8))] * 400, ["a"], [str(n) for n in range(400)])
