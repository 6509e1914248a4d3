"""What people bring as photographs, and what is said about it."""

import numpy as np
import pytest
import torch
from PIL import Image

from sgxl_t.sampling.inversion.photos import read_photos, targets


def picture(width=40, height=40, mode="RGB"):
    values = np.random.RandomState(0).randint(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def read(file, resolution=16, channels=3):
    return read_photos([file], resolution, channels)[0]


def test_a_picture_that_fits_stays_as_it_is():
    values = np.asarray(picture(16, 16)).transpose(2, 0, 1)
    photo = read(picture(16, 16))
    assert photo.notes == ()
    assert photo.pixels.numpy().tolist() == values.tolist()
    assert read(torch.from_numpy(values.copy())).pixels.equal(photo.pixels)
    assert targets([photo], torch.device("cpu")).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("made", "note"),
    [
        (picture(40, 20), "cut to its centred square from 40 x 20"),
        (picture(40, 40), "reduced from 40 to 16 px"),
        (picture(8, 8), "enlarged from 8 to 16 px"),
        (picture(16, 16, "RGBA"), "put on white where it is transparent"),
    ],
)
def test_what_is_changed_is_said(tmp_path, made, note):
    made.save(tmp_path / "p.png")
    photo = read(tmp_path / "p.png")
    assert note in photo.notes
    assert photo.name == "p.png"
    assert photo.pixels.shape == (3, 16, 16)


def test_exif_turns_and_only_the_first_frame_counts(tmp_path):
    marked = Image.new("RGB", (16, 16))
    marked.paste((255, 255, 255), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 3
    marked.save(tmp_path / "turned.png", exif=exif)
    photo = read(tmp_path / "turned.png")
    assert photo.notes == ("turned upright as its EXIF says",)
    assert (int(photo.pixels[0, 12, 12]), int(photo.pixels[0, 2, 2])) == (255, 0)
    marked.save(tmp_path / "film.webp", save_all=True, append_images=[picture(16, 16)], lossless=True)
    film = read(tmp_path / "film.webp")
    assert film.notes == ("the first of 2 frames was taken",)
    assert int(film.pixels[0, 2, 2]) == 255


def test_grey_pictures_and_grey_models(tmp_path):
    picture(16, 16, "L").save(tmp_path / "grey.png")
    assert read(tmp_path / "grey.png").pixels.shape == (3, 16, 16)
    assert read(tmp_path / "grey.png", channels=1).pixels.shape == (1, 16, 16)


@pytest.mark.parametrize("data", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n broken"])
def test_broken_files_are_one_sentence(tmp_path, data):
    (tmp_path / "broken.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as a picture .*: name a JPEG"):
        read(tmp_path / "broken.png")


def test_other_things_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(ValueError, match="no photograph"):
        read_photos([], 16, 3)
    with pytest.raises(ValueError, match="pass uint8"):
        read(torch.zeros(3, 16, 16))
