"""The start of a run says what its data leaves out, and a refusal by which rule."""

import logging

import pytest
from PIL import Image

from sgxl_t.networks.configs import GeneratorConfig
from sgxl_t.training.checks import check_source
from sgxl_t.training.config.config import TrainConfig
from sgxl_t.training.config.parts import DataConfig
from sgxl_t.training.loop.data import open_data


def files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16)).save(path)
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
