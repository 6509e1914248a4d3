"""`--start`: what a run takes from another run or from a model folder, what stays fresh, what is refused."""

import re
import shutil

import pytest
import torch
from tiny_runs import tiny_run

from sgxl_t.conditioning.class_table import rows_by_name
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.training.build_trainer import build_trainer
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.local_features import resolve
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.progressive.planner import plan_run
from sgxl_t.training.start.begin import grouped
from sgxl_t.training.train import main

QUIET = {"log__track_images": 0, "deterministic": "true"}


@pytest.fixture(scope="module")
def classes(tmp_path_factory, tiny_features):
    """A run on digits."""
    folder = tmp_path_factory.mktemp("start") / "classes"
    main(tiny_run(folder, tiny_features, **QUIET))
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory, tiny_features):
    """A run on captions."""
    folder = tmp_path_factory.mktemp("start") / "text"
    main(tiny_run(folder, tiny_features, cond="text", **QUIET))
    return folder


def begun(folder, features, **settings):
    """The state of a run before its first update."""
    config = configured(folder, features, **settings)
    trainer = build_trainer(config, Runtime(deterministic=True), folder)
    trainer.begin()
    return trainer.state


def configured(folder, features, **settings):
    return plan_run(parse_config(tiny_run(folder, features, **{**QUIET, **settings}))).stages[0].config


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_model_folder_gives_generator_and_average(classes, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    state = begun(tmp_path / "run", tiny_features, start=classes / "best")
    stored = load_model(classes / "best")[0].state_dict()
    assert same(state.g.raw.state_dict(), stored)
    assert same(state.ema.network.state_dict(), stored)
    assert not same(state.d.raw.state_dict(), load_newest(classes / "checkpoints")[1]["network_d"])
    assert state.g.optimizer_state() == {}
    assert state.images_seen == 0
    said = [line for line in caplog.messages if line.startswith("starts from")]
    assert said == [
        f"starts from {classes / 'best'}, a model folder: {len(stored)} tensors of generator and average; "
        "fresh: discriminator, optimiser states"
    ]


def test_a_run_from_a_model_folder_trains_and_resumes(classes, tmp_path, tiny_features):
    arguments = {"start": classes / "best", **QUIET}
    main(tiny_run(tmp_path / "straight", tiny_features, schedule__kimg=0.032, **arguments))
    for kimg in (0.016, 0.032):
        main(tiny_run(tmp_path / "parts", tiny_features, schedule__kimg=kimg, **arguments))
    straight, parts = (load_newest(tmp_path / run / "checkpoints")[1] for run in ("straight", "parts"))
    assert same(straight["network_g"], parts["network_g"])
    assert not same(straight["network_g"], load_newest(classes / "checkpoints")[1]["network_g"])


@pytest.mark.parametrize("family", ["stylegan_t", "stylegan3"])
def test_the_sizes_are_the_folders(family, classes, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    settings = {"start": classes / "best", "generator": family, "generator__z_dim": 12}
    begun(tmp_path / "run", tiny_features, **settings)
    config = configured(tmp_path / "run", tiny_features, **settings)
    assert config.generator == load_model(classes / "best")[2].generator
    assert "the run trains the generator of start=" in caplog.text


def test_captions_are_read_with_the_folders_encoder(text, tmp_path, tiny_features, monkeypatch):
    other = tmp_path / "features" / "clip"
    shutil.copytree(tiny_features / "clip", other)
    named = {"conditioning__text_encoder": f"local:{other}", "cond": "text", "start": text / "last"}
    state = begun(tmp_path / "run", tiny_features, **named)
    _, condition, _ = load_model(text / "last")
    with torch.no_grad():
        state.condition.original.text_parameters()[0].add_(1)  # the frozen one is another
        assert torch.equal(state.condition.encode(["a red fox"]).c, condition.encode(["a red fox"]).c)
        assert not torch.equal(state.condition.encode_frozen(["a dog"]).c, condition.encode(["a dog"]).c)
    assert not state.condition.learns


def test_a_side_that_is_larger_is_named(classes, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    begun(tmp_path / "run", tiny_features, start=classes, generator__img_resolution=32)
    found = re.search(r"starts from .*kimg_0000000.016, \d+ tensors of g, .*; fresh: (.*)", caplog.text)
    assert re.search(r"\d+ tensors of g \(b32\.\*\)", found[1])


def test_nothing_stays_fresh_where_all_fits(classes, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    state = begun(tmp_path / "run", tiny_features, start=classes)
    parts = load_newest(classes / "checkpoints")[1]
    assert same(state.d.raw.state_dict(), parts["network_d"])
    assert same(state.d.optimizer_state(), parts["optimizer_d"])
    assert "fresh: nothing" in caplog.text


def test_heads_stay_fresh_before_other_features(classes, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    state = begun(
        tmp_path / "run", tiny_features, start=classes, discriminator__features='["random:small_cnn"]'
    )
    parts = load_newest(classes / "checkpoints")[1]
    assert same(state.g.raw.state_dict(), parts["network_g"])
    assert not same(state.d.raw.state_dict(), parts["network_d"])
    assert "fresh: discriminator, which sees through other feature networks" in caplog.text


def test_local_features_are_taken_over_with_the_run(classes, tmp_path, tiny_features, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(resolve, "train_features", None)
    run = tmp_path / "run_of_auto"
    shutil.copytree(classes, run)
    shutil.copytree(tiny_features / "cnn", run / "features" / "cnn")
    auto = {"discriminator__features": '["auto:cnn"]', "conditioning__class_features": "auto:cnn"}
    begun(tmp_path / "new", tiny_features, start=run, **auto)
    assert (tmp_path / "new" / "features" / "cnn" / "model.safetensors").is_file()
    assert f"local feature networks are those of {run / 'features'}: cnn" in caplog.text


def write_classes(folder, names):
    from PIL import Image

    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for shade in range(4):
            Image.new("RGB", (16, 16), (40 * number, 60 * shade, 90)).save(folder / name / f"{shade}.png")
    return folder


def test_classes_find_their_rows_by_name(classes, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    stored = load_model(classes / "best")[0].mapping.embed.weight
    data = write_classes(tmp_path / "data", ["3", "new", "7"])
    state = begun(tmp_path / "run", tiny_features, start=classes / "best", data__source=data)
    expected = torch.stack([stored[3], stored[7], stored.mean(dim=0)])
    assert state.condition.names == ("3", "7", "new")
    assert torch.equal(state.g.raw.mapping.embed.weight, expected)
    assert torch.equal(state.ema.network.mapping.embed.weight, expected)
    assert "optimiser states, 1 of 3 classes" in caplog.text


def test_rows_by_name_and_groups_of_names():
    rows = torch.tensor([[0.0, 2.0], [4.0, 6.0]])
    assert rows_by_name(rows, ["a", "b"], ["b", "c"]).tolist() == [[4, 6], [2, 4]]
    assert grouped(["synthesis.b64.x", "synthesis.b64.y.z", "mapping.fc0.w"]) == "b64.*, mapping.*"
    assert grouped([f"{letter}.x" for letter in "abcdef"]) == "a.*, b.*, c.*, d.* and 2 more"


# Refused before anything is trained or written --------------------------------------------------------------


AUTO = {"discriminator__features": '["auto:cnn"]', "conditioning__class_features": "auto:cnn"}


DINO = {"discriminator": "dino", "discriminator__features": '["auto:vit"]'}
HEAD = {"generator": "stylegan3", "generator__stylegan3__superres": "[{up_factor: 2}]"}


@pytest.fixture
def refusal(tmp_path, tiny_features, capsys, monkeypatch):
    """Sentence with which a run is refused that would first train its features; nothing may be left of it."""

    def refused(**settings):
        def trained(*_, **__):
            raise AssertionError("features were trained")

        monkeypatch.setattr(resolve, "train_features", trained)
        with pytest.raises(SystemExit) as caught:
            main(tiny_run(tmp_path / "run", tiny_features, **{**AUTO, **settings}))
        error = capsys.readouterr().err
        assert caught.value.code == 2
        assert len(error.strip().splitlines()) == 1, error
        assert not (tmp_path / "run").exists()
        return error

    return refused


def test_a_start_that_is_none_is_refused_first(refusal, tmp_path, classes, text):
    (tmp_path / "a.pkl").touch()
    (tmp_path / "empty").mkdir()
    shutil.copytree(classes / "best", tmp_path / "half" / "best")
    newest = classes / "checkpoints" / "kimg_0000000.016"
    small = {"generator__img_resolution": 32, "generator": "stylegan3"}
    cases = [
        ({"start": tmp_path / "no"}, "is not there: name a run folder"),
        (
            {"start": tmp_path / "a.pkl"},
            "is a file: name a run folder or a model folder, which `sgxl-t import",
        ),
        ({"start": tmp_path / "empty"}, "holds neither checkpoints nor a model"),
        ({"start": tmp_path / "half"}, f"name {tmp_path / 'half' / 'best'} to take its generator alone"),
        ({"start": newest}, f"name the run, {classes}"),
        ({"start": text / "best"}, "makes images from text and cond is class: set --cond text"),
        ({"start": text}, "makes images from text and cond is class"),
        ({"start": classes, "generator": "stylegan3"}, "set --generator.family stylegan_t"),
        ({"start": classes / "best", **small}, "set --generator.img_resolution 16"),
    ]
    for settings, words in cases:
        assert words in refusal(**settings), settings


def test_a_damaged_start_is_refused_first(refusal, tmp_path, classes):
    shutil.copytree(classes, tmp_path / "cut")
    for checkpoint in (tmp_path / "cut" / "checkpoints").iterdir():
        (checkpoint / "network_g.safetensors").write_bytes(b"")
    assert "holds no whole checkpoint: name" in refusal(start=tmp_path / "cut")
    shutil.copytree(classes / "best", tmp_path / "best")
    (tmp_path / "best" / "config.json").write_text("{")
    assert "config.json is not valid JSON" in refusal(start=tmp_path / "best")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data__source": "no/such/folder"}, "no/such/folder"),
        ({"generator__img_resolution": 20}, "no power of two"),
        ({"stem": "no/stem", **HEAD}, "no/stem"),
        ({"log__metrics": "[fdd_random]"}, "fdd_random"),
        ({"log__metrics": "[fd_local:no/judge]"}, "no/judge"),
        ({"log__track_source": "no/source"}, "no/source"),
        ({"discriminator__features": '["auto:cnn", "timm:no_net"]'}, "no_net"),
        ({"discriminator__features": '["auto:cnn", "local:no/net"]'}, "no/net"),
        ({"discriminator__features": '["auto:cnnn"]'}, "auto:cnnn is no feature network"),
        ({"cond": "text", "conditioning__text_encoder": "local:no/encoder"}, "no/encoder"),
        ({"cond": "text", "conditioning__own_text_encoder": "local:no/own"}, "no/own"),
        ({"discriminator__diff_augment": "colour"}, "augmentation step 'colour' is unknown"),
        ({"discriminator__projected__csm_kernel": 2}, "csm_kernel"),
        ({**DINO, "discriminator__dino__taps": "[9]"}, "taps"),
        ({"freeze_below": 12}, "freeze_below=12"),
        ({"generator": "stylegan3", "generator__stylegan3__num_layers": 1}, "num_layers"),
        ({"generator__z_dim": 0}, "z_dim=0"),
        ({"conditioning__class_table": "no/table.npy"}, "no/table.npy"),
        ({"objective__cls_weight": 1, "conditioning__classifier": "random:small_vit"}, "has no classifier"),
        ({"batch__images": 9}, "batch.images=9"),
        ({"optimizer__beta2": 1}, "optimizer.beta2=1"),
        ({"log__grid_rows": 0}, "log.grid_rows=0"),
    ],
)
def test_what_configuration_and_data_show_is_refused_first(settings, words, refusal):
    assert words in refusal(**settings)


def test_what_the_data_lacks_is_refused_first(refusal, tmp_path):
    flat = write_classes(tmp_path / "flat", ["only"]) / "only"
    assert "cond=class needs one per picture" in refusal(data__source=flat)
    assert "cond=text needs one per picture" in refusal(data__source=flat, cond="text")


def test_a_run_of_other_networks_keeps_its_configuration(classes, tmp_path, tiny_features, capsys):
    run = tmp_path / "run"
    shutil.copytree(classes, run)
    before = (run / "config.yaml").read_bytes()
    for settings in ({"generator__z_dim": 12}, {"generator": "stylegan3"}):
        with pytest.raises(SystemExit):
            main(tiny_run(run, tiny_features, **QUIET, **settings))
        assert "was made by other networks than the configuration builds" in capsys.readouterr().err
        assert (run / "config.yaml").read_bytes() == before


def test_a_guide_without_images_is_refused_first(refusal, text):
    settings = {"cond": "text", "conditioning__text_encoder": f"local:{text / 'last' / 'text_encoder'}"}
    assert "needs a CLIP with an image tower" in refusal(objective__clip_weight=1, **settings)
