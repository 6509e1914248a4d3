"""One command on own pictures: it chooses, trains, goes on, and says what it did."""

import json
import logging

import pytest
import timm
import torch
import yaml
from accelerate.state import AcceleratorState
from hub_stand_in import place_weights
from huggingface_hub import constants
from launches import torchrun
from test_recipe_survey import pictures

from sgxl_t.model_io.model_folder import load_model
from sgxl_t.model_io.named_model import packaged_model
from sgxl_t.networks.backbones import precision
from sgxl_t.training import train
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.parallel.exit_codes import INTERRUPTED, USER_ERROR
from sgxl_t.training.parallel.runtime import LAUNCHED_PRECISION, Runtime
from sgxl_t.training.recipe import configure, speed
from sgxl_t.training.recipe.choose import Speed
from sgxl_t.training.recipe.wanted import wants_recipe
from sgxl_t.training.train import main

TINY = [
    *("--features", "local"),
    *("--generator.z_dim", "16", "--generator.stylegan_t.channel_base", "128"),
    *("--generator.stylegan_t.channel_max", "8", "--generator.stylegan_t.norm_groups", "4"),
    *("--discriminator.projected.cout", "8", "--discriminator.projected.head_width", "8"),
    *("--batch.images", "8", "--log.grid_rows", "2", "--log.grid_columns", "2"),
    *("--log.tensorboard", "false", "--log.progress", "false"),
]


@pytest.fixture
def measured(monkeypatch):
    """Sides that were measured; the machine trains 20,000 images a second."""
    sides = []

    def measure(values, source, runtime):
        sides.append(values["generator"]["img_resolution"])
        assert source.resolution == sides[-1]
        return Speed(images=20_000)

    monkeypatch.setattr(configure, "measure_speed", measure)
    return sides


def code_of(arguments):
    with pytest.raises(SystemExit) as left:
        main([str(one) for one in arguments])
    return left.value.code


def config_of(run):
    return yaml.safe_load((run / "config.yaml").read_text())


def kimg_of(run):
    newest = max((run / "checkpoints").iterdir())
    return json.loads((newest / "state.json").read_text())["images_seen"] / 1000


def test_speed_is_that_of_updates_which_train_the_generator(tmp_path, monkeypatch):
    """Also where the heads learn alone at first, which is far faster."""
    moved = []

    def timed(trainer, updates):
        before = [weight.detach().clone() for weight in trainer.state.g.raw.parameters()]
        trainer.update(trainer.next_batches())
        after = trainer.state.g.raw.parameters()
        moved.append(any(not torch.equal(old, new) for old, new in zip(before, after, strict=True)))
        return 1.0

    monkeypatch.setattr(speed, "_seconds_of", timed)
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "photos", 40, size=(20, 20))
    parse = ["--data", "photos", "--minutes", "0.15", "--objective.d_alone_kimg", "1", "--dry-run"]
    main([*parse, *TINY])
    assert moved
    assert all(moved)


def test_one_command_trains_in_the_minutes_and_gives_the_recipe(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "photos", 40, size=(20, 20))
    command = ["--data", "photos", "--minutes", "0.15", *TINY]
    with caplog.at_level(logging.INFO):
        main(command)
    run = tmp_path / "runs" / "none-photos"
    assert {"best", "last", "report.html", "recipe.yaml"} <= {path.name for path in run.iterdir()}
    assert "ended by kimg" in caplog.text, "within its minutes, not by them"
    said = capsys.readouterr().err
    assert "photos: 40 pictures of about 20 px (the smallest 20 px), no labels, no captions, colour" in said
    assert "resolution       16" in said
    assert "sgxl-t train --config runs/none-photos/recipe.yaml --out OTHER" in said
    assert not list(tmp_path.glob("sgxl_t_trial_*"))
    written = config_of(run)
    assert written["generator"]["img_resolution"] == 16
    assert written["schedule"]["fit_minutes"] is True
    assert written["data"]["mirror"] is False
    again = parse_config(["--config", str(run / "recipe.yaml")]).to_dict()
    assert again["discriminator"]["projected"].pop("input_size") == "auto"
    assert written["discriminator"]["projected"].pop("input_size") is None, "what it is for local networks"
    assert again == written
    monkeypatch.setattr(configure, "measure_speed", lambda *_: pytest.fail("measured again"))
    trained = kimg_of(run)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        main(command)
    assert "nothing is left to train" in caplog.text
    main([*command, "--kimg", str(trained + 0.016)])
    assert kimg_of(run) == pytest.approx(trained + 0.016), "a length that is named is trained"


def test_a_stopped_run_goes_on_with_its_settings(tmp_path, measured, caplog):
    place, run = pictures(tmp_path / "d", 40), tmp_path / "run"
    command = ["--data", place, "--minutes", "0.03", "--schedule.fit_minutes", "false", "--out", run, *TINY]
    assert code_of(command) == INTERRUPTED
    first, before = kimg_of(run), config_of(run)
    assert measured == [32]
    recipe = (run / "recipe.yaml").read_text()
    pictures(place, 10, names="cat/more{}.png")
    pictures(place, 10, names="dog/more{}.png")
    with caplog.at_level(logging.INFO):
        assert code_of(command) == INTERRUPTED
    assert f"{run} is there: its settings are taken" in caplog.text
    assert measured == [32], "nothing is measured anew"
    assert kimg_of(run) > first
    assert config_of(run) == before
    assert (run / "recipe.yaml").read_text() == recipe


@pytest.mark.parametrize(
    ("kind", "cond"),
    [
        ({"names": "{animal}/{}.png"}, "class"),
        ({"captions": True}, "text"),
        ({"gray": True}, "none"),
        ({"names": "fox/{}.png"}, "none"),
    ],
)
def test_labels_captions_and_gray_pictures_train(tmp_path, measured, kind, cond, monkeypatch):
    monkeypatch.setattr(configure.rules, "TEXT_PICTURES", 80)
    place, run = pictures(tmp_path / "d", 80, size=(16, 16), **kind), tmp_path / "run"
    short = ["--conditioning.feature_seconds", "0.2", "--log.track_images", "16"]
    main([str(one) for one in ["--data", place, "--out", run, "--kimg", "0.016", *short, *TINY]])
    assert measured == [], "a length was given"
    written = config_of(run)
    assert written["cond"] == cond
    assert written["generator"]["img_channels"] == (1 if kind.get("gray") else 3)
    assert (run / "best" / "config.json").is_file()


@pytest.mark.parametrize("cond", ["none", "class", "text"])
def test_a_published_network_brings_the_packaged_model_as_a_start(
    cond, tmp_path, measured, monkeypatch, capsys
):
    monkeypatch.setattr(configure.rules, "TEXT_PICTURES", 40)
    monkeypatch.setattr(configure.rules, "CLASS_PICTURES", 10)
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    tensors = timm.create_model("tf_efficientnet_lite0").state_dict()
    place_weights(cache, "timm/tf_efficientnet_lite0.in1k", "model.safetensors", tensors)
    kind = {"none": {}, "class": {"names": "{animal}/{}.png"}, "text": {"captions": True}}[cond]
    place, run = pictures(tmp_path / "d", 40, size=(40, 40), **kind), tmp_path / "run"
    short = [
        "--kimg",
        "0.016",
        "--batch.images",
        "8",
        "--log.track_images",
        "16",
        "--objective.d_alone_kimg",
        "0",
    ]
    main([str(one) for one in ["--data", place, "--out", run, *short]])
    assert "starts from" in capsys.readouterr().err
    written, (theirs, _, _) = config_of(run), load_model(packaged_model("demo_text"))
    assert (written["cond"], written["start"], written["features"]) == (cond, "demo_text", "pretrained")
    assert not (run / "features").exists(), "nothing is trained before the run"
    if cond == "text":
        _, condition, _ = load_model(run / "last")
        assert condition.encoder.vocabulary.means == {}, "own captions mean what they say"
    assert written["discriminator"]["features"] == ["timm:tf_efficientnet_lite0.in1k"]
    assert written["discriminator"]["projected"]["input_size"] == 64
    ours = load_model(run / "last")[0].state_dict()
    name = "synthesis.b16.convs1.0.weight"
    assert 0 < (ours[name] - theirs.state_dict()[name]).abs().max() < 0.1
    main([str(one) for one in ["--data", place, "--out", run, *short[2:], "--kimg", "0.032"]])
    assert kimg_of(run) == pytest.approx(0.032)


@pytest.mark.slow
def test_real_trials_of_each_condition_leave_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    place = pictures(tmp_path / "d", 80, size=(16, 16), names="{animal}/{}.png", captions=True)
    for cond in ("class", "text", "none"):
        shown = ["--data", place, "--cond", cond, "--out", tmp_path / "run", "--print_config", *TINY]
        assert code_of(shown) in (0, None)
        out, err = capsys.readouterr()
        assert yaml.safe_load(out)["cond"] == cond
        assert "as given" in err
        assert "no --minutes given: 60 are taken" in err
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "temporary").iterdir())


def test_a_dry_run_prints_memory_and_leaves_nothing(tmp_path, measured, capsys):
    place = pictures(tmp_path / "d", 40)
    main(["--data", str(place), "--out", str(tmp_path / "run"), "--dry-run", *TINY])
    assert "parameters at 32 px" in capsys.readouterr().out
    assert measured == [32]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "zero2"])
def test_two_processes_choose_alike(tmp_path, mode):
    place, run = pictures(tmp_path / "d", 40, size=(16, 16)), tmp_path / "run"
    done = torchrun(["--data", str(place), "--minutes", "0.2", "--out", str(run), *TINY], mode=mode)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("40 pictures of about 16 px") == 1
    assert done.stderr.count("measuring how fast") == 1
    assert config_of(run)["batch"]["images"] == 8
    assert "2 process(es) take part" in done.stderr
    assert (run / "best" / "config.json").is_file()


@pytest.mark.parametrize(
    ("count", "extra", "message"),
    [
        (1, [], "1 picture is too few to learn from: put at least 8 there"),
        (40, ["--cond", "class"], "has no labels, cond=class needs one per picture"),
        (40, ["--cond", "text"], "has no captions, cond=text needs one per picture"),
        (40, ["--batch.imges", "3"], "there is no setting batch.imges, did you mean batch.images?"),
        (40, ["--minutes", "0"], "schedule.max_minutes=0"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(tmp_path, measured, capsys, count, extra, message):
    place = pictures(tmp_path / "d", count)
    assert code_of(["--data", place, "--out", tmp_path / "run", *extra]) == USER_ERROR
    said = capsys.readouterr().err
    assert message in said
    assert said.count("error:") == 1
    assert measured == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "wants"),
    [
        ("--data photos", True),
        ("--data=photos --minutes 5 --cond none", True),
        ("--data.source photos.zip --kimg 5", True),
        ("--minutes 5", False),
        ("--data digits --minutes 5", False),
        ("--data emoji-scenes:4x4", False),
        ("--data photos --config a.yaml", False),
        ("--data photos --stem model", False),
        ("--data photos --help", False),
    ],
)
def test_a_recipe_is_for_own_data_that_nothing_else_describes(arguments, wants):
    assert wants_recipe(arguments.split()) is wants


@pytest.mark.parametrize(
    ("gains", "told", "computes"), [(True, None, "bf16"), (True, "no", "no"), (False, None, "no")]
)
def test_own_pictures_are_trained_in_bfloat16_where_the_processor_gains_and_nobody_said_otherwise(
    gains, told, computes, measured, tmp_path, monkeypatch, capsys
):
    pictures(tmp_path / "data", 40)
    AcceleratorState._reset_state()  # a process keeps the precision that it began with
    monkeypatch.setattr(precision, "cpu_gains_by_bf16", lambda: gains)
    monkeypatch.delenv(LAUNCHED_PRECISION, raising=False)
    if told is not None:
        monkeypatch.setenv(LAUNCHED_PRECISION, told)
    seen = []

    def kept(config, runtime, recipe):
        seen.append((runtime.precision, recipe))
        return 0

    monkeypatch.setattr(train, "run", kept)
    main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--minutes", "1", *TINY])
    [(found, recipe)] = seen
    assert found == computes
    said = "computes in bfloat16" in capsys.readouterr().err
    assert said == (computes == "bf16")
    assert ("ACCELERATE_MIXED_PRECISION=bf16 sgxl-t train --config" in recipe) == said
    AcceleratorState._reset_state()


def test_a_process_keeps_the_precision_of_its_first_run():
    AcceleratorState._reset_state()
    assert Runtime(deterministic=False).precision == "no"
    assert Runtime(deterministic=False, bf16_on_cpu=True).precision == "no"
    AcceleratorState._reset_state()
