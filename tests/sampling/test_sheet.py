"""Sample sheets: pages, names, sizes."""

import numpy as np
import pytest
from PIL import Image

from sgxl_t.sampling.image import GeneratedImage
from sgxl_t.sampling.output.grid import check_grid, labelled_grid
from sgxl_t.sampling.output.sheet import page_files, write_sheets


def pictures(labels, seeds, taken=None):
    for row, label in enumerate(labels):
        for seed in seeds:
            if taken is not None:
                taken.append((label, seed))
            yield GeneratedImage(Image.new("RGB", (16, 16), (10 * row, 5 * seed, 200)), label, seed)


def test_one_page_takes_the_file_itself_and_more_take_numbers(tmp_path):
    file = tmp_path / "sheet.png"
    assert page_files(file, 32, 32) == [file]
    assert page_files(file, 33, 32) == [tmp_path / "sheet-1.png", tmp_path / "sheet-2.png"]
    many = page_files(file, 1000, 32)
    assert (len(many), many[0].name, many[-1].name) == (32, "sheet-01.png", "sheet-32.png")


def test_every_row_is_on_its_page_in_order(tmp_path):
    labels, seeds = [f"{index} class" for index in range(7)], [0, 1, 2]
    titles, file = [f"seed {seed}" for seed in seeds], tmp_path / "s.png"
    pages = write_sheets(pictures(labels, seeds), labels, titles, file, resolution=16, rows_per_page=3)
    assert [path.name for path in pages] == ["s-1.png", "s-2.png", "s-3.png"]
    images = [picture.image for picture in pictures(labels, seeds)]
    columns = ["seed 0", "seed 1", "seed 2"]
    for page, first in zip(pages, (0, 3, 6), strict=True):
        rows = labels[first : first + 3]
        whole = labelled_grid(images[3 * first : 3 * (first + len(rows))], rows, columns)
        assert np.array_equal(np.asarray(Image.open(page)), np.asarray(whole))
        assert Image.open(page).size == check_grid(16, rows, columns)[:2]


def test_a_page_too_large_is_refused_before_the_first_picture(tmp_path):
    labels, seeds, taken = ["fox"], list(range(400)), []
    with pytest.raises(ValueError, match="ask for fewer at a time"):
        write_sheets(pictures(labels, seeds, taken), labels, [""] * 400, tmp_path / "s.png", resolution=16)
    assert taken == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "rows", "sentence"),
    [
        ("sheet.jpg", 32, "does not end in .png"),
        ("taken.png", 32, "is a folder"),
        ("sheet.png", 0, "use at least 1"),
    ],
)
def test_what_cannot_be_a_sheet_is_one_sentence(tmp_path, name, rows, sentence):
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(ValueError, match=sentence):
        page_files(tmp_path / name, 4, rows)
