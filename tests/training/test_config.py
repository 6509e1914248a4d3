"""The configuration: presets, files, flags, and mistakes that stop with one sentence."""

from pathlib import Path

import pytest

from sgxl_t.training.config.config_file import parse_config, write_config

CONFIGS = sorted(
    path for path in (Path(__file__).parents[2] / "configs").glob("*/*.yaml") if path.parent.name != "launch"
)


@pytest.mark.parametrize("cond", ["class", "text", "none"])
def test_cond_alone_is_a_complete_run(cond):
    config = parse_config(["--cond", cond])
    assert config.cond == cond
    assert config.rounds(1) >= 1


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_file_in_configs_is_valid(path):
    assert parse_config(["--config", str(path)]).rounds(1) >= 1


def test_flags_win_over_the_file_and_dashes_are_underscores(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("cond: none\nschedule: {kimg: 7}\n")
    config = parse_config(["--config", str(path), "--schedule.kimg", "9", "--run-dir", str(tmp_path / "a-b")])
    assert (config.schedule.kimg, config.cond, config.folder()) == (9, "none", tmp_path / "a-b")


def test_a_written_configuration_repeats_itself(tmp_path):
    config = parse_config(["--cond", "text", "--batch.images", "96"])
    write_config(config.to_dict(), tmp_path / "config.yaml")
    assert parse_config(["--config", str(tmp_path / "config.yaml")]) == config


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--generator.bogus", "1"], "generator.bogus"),
        (["--batch.images", "many"], "batch.images"),
        (["--cond", "classes"], "cond"),
        (["--generator.img_resolution", "33"], "img_resolution=33"),
        (["--batch.images", "0"], "batch.images=0"),
        (["--schedule.kimg", "-1"], "schedule.kimg=-1"),
        (["--conditioning.train_text_encoder", "true"], "train_text_encoder"),
        (["--discriminator.precision", "half"], "discriminator.precision"),
        (["--discriminator.family", "dino", "--discriminator.features", "[a:b, c:d]"], "2 networks"),
        (["--objective.order", "d_first"], "share_fakes"),
        (["--config", "no/such/file.yaml"], "no/such/file.yaml"),
    ],
)
def test_mistakes_are_named(arguments, named):
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_config(arguments)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_key_in_a_file_is_named_with_its_path(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("cond: class\ngenerator: {stylegan3: {chanel_max: 3}}\n")
    with pytest.raises(ValueError, match="chanel_max"):
        parse_config(["--config", str(path)])


def test_a_batch_that_does_not_split_says_the_multiple():
    config = parse_config(["--batch.images", "48", "--batch.per_device", "32"])
    with pytest.raises(
        ValueError, match=r"batch.images=48 does not split over 1 processes of 32.*multiple of 32"
    ):
        config.rounds(1)
    with pytest.raises(ValueError, match="multiple of 64"):
        config.rounds(2)
