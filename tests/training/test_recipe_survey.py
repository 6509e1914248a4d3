"""What a look at data finds: folders, zips and shards, with labels, captions, colours and sides."""

import random

from PIL import Image
from tiny_shards import picture, write_shards

from sgxl_t.datasets.open import open_source
from sgxl_t.training.recipe import rules
from sgxl_t.training.recipe.survey import look
from sgxl_t.training.recipe.words import found

ANIMALS = ("fox", "cat", "dog", "owl")


def pictures(folder, count, *, size=(40, 40), names="{}.png", gray=False, captions=False):
    """Noise in colour or gray, a file each; names: by number, with folders."""
    rng = random.Random(0)
    for number in range(count):
        path = folder / names.format(number, animal=ANIMALS[number % 4])
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = "L" if gray else "RGB"
        colour = rng.randrange(256) if gray else tuple(rng.randrange(256) for _ in range(3))
        Image.new(mode, size, colour).save(path)
        if captions:
            path.with_suffix(".txt").write_text(f"a {ANIMALS[number % 4]} called {number}")
    return folder


def survey_of(place):
    return look(open_source(place, resolution=32))[0]


def test_a_flat_folder(tmp_path):
    seen = survey_of(pictures(tmp_path / "d", 40))
    assert (seen.pictures, seen.all_known) == (40, True)
    assert (seen.smallest, seen.usual, seen.median) == (40, 40, 40)
    assert (seen.classes, seen.per_class, seen.captions, seen.gray) == (0, 0, False, False)
    assert seen.read_seconds > 0
    assert not seen.streamed
    assert seen.stays_in_memory(64)
    assert not seen.stays_in_memory(4096)


def test_the_usual_side_is_one_that_nine_of_ten_pictures_have(tmp_path):
    place = pictures(tmp_path / "d", 30, size=(90, 60))
    pictures(place, 4, size=(20, 200), names="small{}.png")
    seen = survey_of(place)
    assert (seen.smallest, seen.usual, seen.median) == (20, 20, 60)
    (place / "small0.png").unlink()
    (place / "small1.png").unlink()
    assert survey_of(place).usual == 60


def test_class_folders(tmp_path):
    place = pictures(tmp_path / "d", 40, names="{animal}/{}.png")
    seen = survey_of(place)
    assert (seen.classes, seen.per_class) == (4, 10)
    for path in sorted((place / "owl").iterdir())[3:]:
        path.unlink()
    assert survey_of(place).per_class == 3
    assert survey_of(pictures(tmp_path / "one", 10, names="fox/{}.png")).classes == 0


def test_captions_with_words_in_common(tmp_path):
    seen = survey_of(pictures(tmp_path / "d", 40, captions=True))
    assert (seen.captions, seen.distinct, seen.shared) == (True, 40, 1.0)


def test_gray_pictures(tmp_path):
    assert survey_of(pictures(tmp_path / "d", 20, gray=True)).gray
    assert not survey_of(pictures(tmp_path / "e", 20)).gray


def test_one_picture_many_times_is_told(tmp_path):
    place = pictures(tmp_path / "d", 40)
    assert survey_of(place).repeated < 4
    assert "nearly" not in found("d", survey_of(place))
    rng = random.Random(1)
    for number in range(10):
        image = Image.new("RGB", (40, 40), (200, 30, 30))
        image.putpixel((rng.randrange(40), rng.randrange(40)), (0, 0, 0))
        image.save(place / f"again{number}.png")
    seen = survey_of(place)
    assert seen.looked_at == 50
    assert 10 <= seen.repeated <= 12
    assert f"{seen.repeated} of 50 looked at are nearly the same one" in found("d", seen)


def labelled(number):
    return {"png": picture(number, (48, 48)), "cls": str(number % 4).encode()}


def test_shards(tmp_path):
    seen = survey_of(str(write_shards(tmp_path / "captions", samples=10)))
    assert (seen.pictures, seen.streamed, seen.captions) == (40, True, True)
    assert (seen.classes, seen.usual, seen.distinct) == (0, 20, 40)
    assert not seen.stays_in_memory(16)
    seen = survey_of(str(write_shards(tmp_path / "labels", samples=10, of=labelled)))
    assert (seen.classes, seen.per_class, seen.usual, seen.captions) == (4, 10, 48, False)


def test_the_look_has_an_end(tmp_path, monkeypatch):
    place = pictures(tmp_path / "d", 60)
    assert len(look(open_source(place, resolution=32))[1]) == 60
    monkeypatch.setattr(rules, "LOOK_SECONDS", 0)
    source = open_source(place, resolution=32)
    survey, opened = look(source)
    assert (survey.pictures, len(opened)) == (60, 32)
