"""The start of a run says what its data leaves out, and a refusal by which rule."""

import logging

import pytest
from PIL import Image
from tiny_runs import tiny_run

from sgxl_t.networks.configs import GeneratorConfig
from sgxl_t.training.checks import check_source
from sgxl_t.training.config.config import TrainConfig
from sgxl_t.training.config.parts import DataConfig
from sgxl_t.training.loop.data import open_data, size_notes
from sgxl_t.training.train import main


def files(folder, *names, size=(16, 16)):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(path)
    return folder


def config_of(folder, **settings):
    return TrainConfig(**settings, data=DataConfig(source=str(folder)))


def test_the_log_has_the_lines_of_prepare_and_info(tmp_path, caplog):
    place = files(tmp_path / "d", *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(9)))
    files(place, "cover.png")
    (place / "notes.md").write_text("x")
    with caplog.at_level(logging.INFO, logger="sgxl_t"):
        source = open_data(config_of(place).data, GeneratorConfig(img_resolution=16))
    assert caplog.messages == [f"{place}: {line}" for line in source.rejects.summary()]
    assert caplog.messages[0].endswith("rejected: 1 x in no class folder (cover.png)")


@pytest.mark.parametrize(
    ("condition", "names", "message"),
    [
        (
            "class",
            ["cat/0.png", "cat/1.png"],
            "cond=class needs one per picture: all pictures lie in the one",
        ),
        ("class", ["0.png"], "cond=class needs one per picture: put pictures into one folder per class"),
        ("text", ["0.png"], "cond=text needs one per picture: put a .txt file beside each picture"),
    ],
)
def test_a_run_without_labels_or_captions_is_told_the_rule(tmp_path, condition, names, message):
    config = config_of(files(tmp_path / "d", *names), cond=condition)
    source = open_data(config.data, GeneratorConfig(img_resolution=16))
    with pytest.raises(ValueError, match=message):
        check_source(config.network_settings(), config.data, config.log, source)


LARGER = (
    "pictures are 100 x 70 px, the run makes 16 px: a new run with --resolution 32 (or up to 64) shows more "
    "of them"
)


@pytest.mark.parametrize(
    ("sizes", "lines"),
    [
        ([(100, 70)], [LARGER]),
        ([(40, 40)], [LARGER.replace("100 x 70", "40 x 40").replace(" (or up to 64)", "")]),
        ([(100, 70), (40, 90), (99, 99)], [LARGER.replace("are 100", "are about 100")]),
        ([(31, 31), (16, 200)], []),
        (
            [(16, 16), (20, 15), (9, 30)],
            [
                "2 of 3 pictures are smaller than the 16 px that the run makes (the smallest 9 x 30 px) and "
                "are enlarged: a new run with --resolution 8 enlarges none"
            ],
        ),
    ],
)
@pytest.mark.parametrize("checks", [0, 100])
def test_pictures_of_other_sizes_than_the_run_makes_are_told(sizes, lines, checks, tmp_path, monkeypatch):
    monkeypatch.setattr("sgxl_t.datasets.images.listed.HEADER_CHECKS", checks)
    for number, size in enumerate(sizes):
        files(tmp_path, f"{number}.png", size=size)
    source = open_data(config_of(tmp_path).data, GeneratorConfig(img_resolution=16))
    assert size_notes(source) == lines
    assert source[0].image.shape == (3, 16, 16)


def test_the_embedded_sets_have_no_sizes_to_tell():
    assert size_notes(open_data(DataConfig(source="digits"), GeneratorConfig(img_resolution=32))) == []


def test_the_start_of_a_run_tells_the_sizes(tmp_path, tiny_features, caplog):
    caplog.set_level(logging.INFO, logger="sgxl_t")
    place = files(tmp_path / "photos", *(f"{number}.png" for number in range(16)), size=(100, 70))
    main(tiny_run(tmp_path / "run", tiny_features, cond="none", data__source=place, log__track_images=0))
    assert f"{place}: {LARGER}" in caplog.messages
