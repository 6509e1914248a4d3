import numpy as np
import pytest
from PIL import Image

from sgxl_t.sampling.output.animation import save_animation, tiled


def moments(count=4):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.mark.parametrize("ending", [".png", ".webp", ".gif", ".PNG"])
def test_every_picture_is_a_frame_of_an_endless_film(tmp_path, ending):
    pictures = moments()
    file = save_animation(pictures, tmp_path / f"film{ending}", fps=10)
    film = Image.open(file)
    assert (film.n_frames, film.size, film.info["loop"]) == (4, (16, 16), 0)
    for number, picture in enumerate(pictures):
        film.seek(number)
        film.load()
        assert film.info["duration"] == 100
        seen, made = (np.asarray(one.convert("RGB")).astype(int) for one in (film, picture))
        assert np.abs(seen - made).max() <= (64 if ending == ".gif" else 0)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_pictures_stand_side_by_side():
    first, last = moments(2)
    row = tiled([first, last], 8)
    assert row.size == (32, 16)
    assert row.crop((16, 0, 32, 16)).tobytes() == last.tobytes()
    sheet = tiled([first, last, last], 2, scale=3)
    assert sheet.size == (96, 96)
    assert sheet.crop((0, 48, 48, 96)).tobytes() == last.resize((48, 48), Image.Resampling.NEAREST).tobytes()


@pytest.mark.parametrize(
    ("name", "fps", "sentence"),
    [
        ("film.mov", 12, r"does not end in .png, .gif, .webp, .mp4: name it film.webp"),
        ("film", 12, "does not end in"),
        ("film.gif", 0.0, "fps=0.0 is out of range"),
        ("film.gif", float("nan"), "fps=nan is out of range"),
        ("taken.gif", 12, "is a folder"),
    ],
)
def test_what_cannot_be_a_film_is_one_sentence(tmp_path, name, fps, sentence):
    (tmp_path / "taken.gif").mkdir()
    with pytest.raises(ValueError, match=sentence):
        save_animation(moments(2), tmp_path / name, fps)
