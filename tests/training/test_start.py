"""`--start`: what a run takes from another run or from a model folder, what stays fresh, what is refused."""

import re
import shutil
from dataclasses import replace

import pytest
import torch
from tiny_clips import tiny_whole_clip
from tiny_models import tiny_folder, tiny_model
from tiny_runs import tiny_run

from sgxl_t.conditioning.class_table import rows_by_name
from sgxl_t.model_io.model_folder import load_model, save_model
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.frozen import load_clip
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.networks.layers import normalize_2nd_moment
from sgxl_t.training.build_trainer import build_trainer
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.local_features import resolve
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.progressive.planner import plan_run
from sgxl_t.training.start import origin
from sgxl_t.training.start.begin import grouped
from sgxl_t.training.start.carry import carry, standing_in
from sgxl_t.training.train import main

QUIET = {"log__track_images": 0, "deterministic": "true", "objective__d_alone_kimg": 0}


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


def test_settings_follow_the_start_where_none_are_given(classes, tmp_path):
    arguments = ["--cond", "class", "--start", str(classes / "best"), "--run-dir", str(tmp_path / "run")]
    config = parse_config(arguments)
    assert config.generator == load_model(classes / "best")[2].generator
    assert config.ema.rampup is None
    given = ["--generator.stylegan_t.channel_max", "4", "--ema.rampup", "0.5", "--optimizer.g_lr", "0.5"]
    config = parse_config([*arguments, *given])
    assert (config.generator.stylegan_t.channel_max, config.generator.z_dim) == (4, 16)
    assert (config.ema.rampup, config.optimizer.g_lr) == (0.5, 0.5)


def test_pictures_are_mirrored_where_those_of_the_start_are_the_runs(classes, tmp_path, caplog):
    generator, condition, info = load_model(classes / "best")
    sizes = replace(info.generator.stylegan_t, mirrored=True)
    mirrored = build_generator(replace(info.generator, stylegan_t=sizes), condition.spec)
    mirrored.load_state_dict(generator.state_dict())
    start = str(save_model(tmp_path / "mirrored", mirrored, condition, info.provenance))

    def chosen(*arguments):
        config = parse_config(["--cond", "class", "--start", start, *arguments])
        return config.generator.stylegan_t.mirrored

    caplog.set_level("INFO")
    assert chosen("--data", info.provenance["data"])
    assert not caplog.messages
    assert not chosen("--data", "emoji-scenes:24x8")
    assert f"start={start} mirrors every other picture and this run none" in caplog.messages[0]
    assert chosen("--data", "emoji-scenes:24x8", "--generator.stylegan_t.mirrored", "true")


def test_minutes_say_how_long_a_run_from_a_start_is(classes, tmp_path):
    arguments = ["--cond", "class", "--start", str(classes / "best"), "--run-dir", str(tmp_path / "run")]
    assert not parse_config(arguments).schedule.fit_minutes
    schedule = parse_config([*arguments, "--minutes", "30"]).schedule
    assert (schedule.max_minutes, schedule.fit_minutes) == (30, True)
    given = ["--minutes", "30", "--schedule.fit_minutes", "false"]
    assert not parse_config([*arguments, *given]).schedule.fit_minutes


def test_settings_of_a_file_follow_a_start_that_is_typed_and_win_where_they_name_it(classes, tmp_path):
    file = tmp_path / "run.yaml"
    settings = "cond: class\ngenerator: {family: stylegan_t, z_dim: 99}\noptimizer: {g_lr: 0.5}\n"
    file.write_text(settings)
    config = parse_config(["--config", str(file), "--start", str(classes)])
    assert config.generator == load_model(classes / "best")[2].generator
    assert config.optimizer.g_lr == 0.5, "a file's rates are no matter of the start"
    file.write_text(f"start: {classes}\n{settings}")
    assert parse_config(["--config", str(file)]).generator.z_dim == 99


def test_without_cond_the_run_takes_that_of_the_start(classes, text):
    for start, cond, data in ((classes, "class", "digits"), (text / "last", "text", "emoji-scenes:24x8")):
        config = parse_config(["--start", str(start)])
        assert (config.cond, config.data.source) == (cond, data)


def test_the_packaged_model_starts_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # away from a demo/text that a demonstration left
    names = ("demo_text", "demo/text")
    first, second = (parse_config(["--start", name, "--cond", "none"]).generator for name in names)
    assert first == second
    assert (first.family, first.img_resolution, first.stylegan_t.channel_max) == ("stylegan_t", 64, 128)
    assert parse_config(["--start", "demo_text"]).conditioning.own_text_encoder.endswith(
        "demo_text/text_encoder"
    )


def test_a_hub_id_is_fetched(classes, monkeypatch):
    asked = []
    monkeypatch.setattr(origin, "hub_folder", lambda name: asked.append(name) or classes / "best")
    assert parse_config(["--start", "owner/name"]).generator.z_dim == 16
    assert set(asked) == {"owner/name"}


def test_images_smaller_than_the_start_makes_lower_its_resolution(tmp_path):
    data = write_classes(tmp_path / "data", ["a", "b"])  # of 16 px
    arguments = ["--start", "demo_text", "--cond", "class", "--data", str(data)]
    assert parse_config(arguments).generator.img_resolution == 16
    assert parse_config([*arguments, "--resolution", "64"]).generator.img_resolution == 64


KNOWN = ("a red fox in snow", "a dog on grass", "a small owl at night")
"""Of words that the text encoder of the runs here knows."""


def write_captions(folder, captions):
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for number in range(8 * len(captions)):
        Image.new("RGB", (16, 16), (90, 10 * number, 60)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(captions[number % len(captions)])
    return folder


def test_a_text_encoder_stays_where_it_knows_the_words(text, tmp_path):
    data = write_captions(tmp_path, [*KNOWN[:2], "a quokka with a didgeridoo"])
    arguments = ["--start", str(text / "best"), "--data", str(data)]
    stays = parse_config(arguments).conditioning.own_text_encoder
    assert stays == f"local:{text / 'best' / 'text_encoder'}"
    write_captions(tmp_path, [KNOWN[0], "an axolotl", "a quokka with a didgeridoo"])
    assert parse_config(arguments).conditioning.own_text_encoder is None


def test_captions_are_read_with_the_folders_encoder(text, tmp_path, tiny_features, monkeypatch):
    other = tmp_path / "features" / "clip"
    shutil.copytree(tiny_features / "clip", other)
    named = {"conditioning__text_encoder": f"local:{other}", "cond": "text", "start": text / "last"}
    named["data__source"] = write_captions(tmp_path / "data", KNOWN)
    state = begun(tmp_path / "run", tiny_features, **named)
    _, condition, _ = load_model(text / "last")
    with torch.no_grad():
        state.condition.original.text_parameters()[0].add_(1)  # the frozen one is another
        assert torch.equal(state.condition.encode(["a red fox"]).c, condition.encode(["a red fox"]).c)
        assert not torch.equal(state.condition.encode_frozen(["a dog"]).c, condition.encode(["a dog"]).c)
    assert not state.condition.learns


def test_the_folders_encoder_may_have_another_width_than_the_frozen_one(text, tmp_path, tiny_features):
    tiny_whole_clip(24).save(tmp_path / "clip")
    named = {"cond": "text", "start": text / "last", "data__source": write_captions(tmp_path / "data", KNOWN)}
    named["conditioning__text_encoder"] = f"local:{tmp_path / 'clip'}"
    state = begun(tmp_path / "run", tiny_features, **named)
    assert state.condition.encode_frozen(["a dog"]).target.shape == (1, 24)
    assert same(state.g.raw.state_dict(), load_model(text / "last")[0].state_dict())


def test_an_own_encoder_of_another_width_than_the_starts_is_refused(text, tmp_path, refusal):
    tiny_whole_clip(24).save(tmp_path / "clip")
    own = {"conditioning__own_text_encoder": f"local:{tmp_path / 'clip'}"}
    said = refusal(cond="text", start=text / "last", **own)
    assert f"gives 24: set --conditioning.own_text_encoder local:{text / 'last' / 'text_encoder'}" in said


def test_a_side_that_is_larger_is_named(classes, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    begun(tmp_path / "run", tiny_features, start=classes, generator__img_resolution=32)
    found = re.search(r"starts from .*kimg_0000000.016, \d+ tensors of g, .*; fresh: (.*)", caplog.text)
    assert re.search(r"\d+ tensors of g \(b32\.\*\)", found[1])


# Other conditions -------------------------------------------------------------------------------------------

SEEN = {
    "class": lambda condition: condition.encode(torch.arange(len(condition.names))),
    "text": lambda condition: condition.encode(["a fox", "a dog in snow"]),
    "none": lambda condition: condition.encode([]),
}
PAIRS = [(one, two) for one in SEEN for two in SEEN if (one, two) != ("none", "none")]


@pytest.mark.parametrize("name", ["sgt-tiny-16", "sgxl-tiny-16"])
@pytest.mark.parametrize(("before", "now"), PAIRS)
def test_latents_stand_in_for_the_condition_of_the_start(before, now, name):
    """The first images are those of `before` for vectors made from z, whatever the new condition says."""
    theirs, condition = tiny_model(before, name)
    ours, other = tiny_model(now, name)
    seen = SEEN[before](condition)
    kept, given = theirs.state_dict(), carry(theirs, ours, seen)
    missing, unknown = ours.load_state_dict(given, strict=False)
    assert set(missing) <= {"mapping.embed.weight", "mapping.embed_proj.weight", "mapping.embed_proj.bias"}
    assert unknown == []
    convolutions = [key for key in kept if key.startswith("synthesis.") and kept[key].ndim == 4]
    assert len(convolutions) > 4
    assert all(torch.equal(kept[key], given[key]) for key in convolutions)
    z = torch.randn(3, ours.z_dim, generator=torch.Generator().manual_seed(5))
    x = normalize_2nd_moment(z)
    with torch.no_grad():
        part = theirs.mapping.condition_part(seen.c)
        if part is not None:
            first = theirs.mapping.mlp if name == "sgt-tiny-16" else lambda x: x
            draws = torch.randn(4096, ours.z_dim, generator=torch.Generator().manual_seed(0))
            matrix, offset = standing_in(first(normalize_2nd_moment(draws)), part)
            theirs.mapping.condition_part = lambda c: first(x) @ matrix.T + offset
        expected = theirs(z, None, noise_mode="const")
        wanted = SEEN[now](other).c
        for row in range(1 if wanted is None else 2):
            images = ours(z, None if wanted is None else wanted[[row] * 3], noise_mode="const")
            torch.testing.assert_close(images, expected, atol=5e-4, rtol=0)


def test_classes_that_are_read_as_captions_move_images_as_captions_do():
    """The mean of the classes leaves alone what z stands in for, and each moves styles as it moved those of
    the text model."""
    theirs, condition = tiny_model("text", "sgt-tiny-16")
    ours = build_generator(
        theirs.config, ConditionSpec(kind="class", dim=theirs.condition.dim, num_classes=3)
    )
    vectors = torch.randn(3, theirs.condition.dim, generator=torch.Generator().manual_seed(1))
    plain = carry(theirs, ours, SEEN["text"](condition))
    given = carry(theirs, ours, SEEN["text"](condition), vectors)
    readers = [name.removesuffix(".bias") for name in given if not torch.equal(given[name], plain[name])]
    readers = {name.removesuffix(".weight") for name in readers}
    assert len(readers) > 4
    x = torch.randn(3, ours.z_dim, generator=torch.Generator().manual_seed(2))
    for name in readers:
        old, new = theirs.get_submodule(name), ours.get_submodule(name)

        def answer(vectors, tensors, new=new, name=name):
            new.load_state_dict({key: tensors[f"{name}.{key}"] for key in ("weight", "bias")})
            return new(torch.cat([x, vectors], dim=1)).detach()

        centre = vectors.mean(dim=0).expand(3, -1)
        torch.testing.assert_close(answer(centre, given), answer(centre, plain), atol=1e-4, rtol=1e-4)
        moved = answer(vectors, given) - answer(centre, given)
        wanted = old(torch.cat([x, vectors], dim=1)) - old(torch.cat([x, centre], dim=1))
        torch.testing.assert_close(moved, wanted.detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("width", [3, 6, 9])
def test_latents_are_brought_to_mean_and_covariance_of_vectors(width):
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(4000, 6, generator=rng) @ torch.randn(6, 6, generator=rng) + 1
    vectors = torch.randn(200, min(width, 6), generator=rng) @ torch.randn(
        min(width, 6), width, generator=rng
    )
    matrix, offset = standing_in(latents, vectors)
    made = latents @ matrix.T + offset
    torch.testing.assert_close(made.mean(dim=0), vectors.mean(dim=0), atol=1e-3, rtol=0)
    torch.testing.assert_close(made.T.cov(correction=0), vectors.T.cov(correction=0), atol=2e-2, rtol=1e-2)


def test_text_becomes_no_condition_before_the_first_update(text, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    for start in (text / "best", text):  # of another condition, a run gives its model
        state = begun(tmp_path / start.name, tiny_features, cond="none", start=start, data__source="digits")
        stored = load_model(text / "best")[0].state_dict()
        for network in (state.g.raw, state.ema.network):
            taken = network.state_dict()
            assert torch.equal(taken["synthesis.b8.convs1.0.weight"], stored["synthesis.b8.convs1.0.weight"])
            assert torch.equal(taken["mapping.mlp.fc0.weight"], stored["mapping.mlp.fc0.weight"])
            assert taken["synthesis.b8.torgb.affine.proj.weight"].shape[1] == 16
        assert state.g.optimizer_state() == {}
    assert "what reads the condition (text there, none here)" in caplog.text
    assert f"start={text} is a run of cond=text: its model {text / 'best'} is taken" in caplog.text


def test_a_condition_is_learnt_from_the_first_update_on(classes, tmp_path, tiny_features):
    main(tiny_run(tmp_path / "run", tiny_features, cond="text", start=classes / "best", **QUIET))
    table = load_model(tmp_path / "run" / "last")[0]
    assert table.condition.kind == "text"
    weight = table.get_submodule("synthesis.b8.torgb.affine.proj").weight
    assert bool(weight[:, 16:].any())


def test_captions_of_another_encoder_are_a_new_condition(text, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    other = load_clip(f"local:{tiny_features / 'clip'}")
    with torch.no_grad():
        other.text_parameters()[0].add_(1)
    other.save(tmp_path / "clip")
    settings = {"cond": "text", "start": text / "last", "conditioning__own_text_encoder": "null"}
    state = begun(
        tmp_path / "a", tiny_features, **settings, conditioning__text_encoder=f"local:{tmp_path / 'clip'}"
    )
    assert not state.g.raw.get_submodule("synthesis.b8.torgb.affine.proj").weight[:, 16:].any()
    assert "captions are read with another text encoder" in caplog.text
    state = begun(tmp_path / "b", tiny_features, **settings)  # the one that it was trained with
    assert same(state.g.raw.state_dict(), load_model(text / "last")[0].state_dict())
    assert "captions are read with its text encoder" in caplog.text


def test_the_average_begins_at_the_start_and_moves_slowly(classes, tmp_path, tiny_features):
    main(tiny_run(tmp_path / "run", tiny_features, start=classes / "best", **QUIET))
    stored = load_model(classes / "best")[0].state_dict()["synthesis.b16.torgb.weight"]
    parts = load_newest(tmp_path / "run" / "checkpoints")[1]
    moved = {
        name: (parts[name]["synthesis.b16.torgb.weight"] - stored).norm() for name in ("ema", "network_g")
    }
    assert 0 < moved["ema"] < 0.1 * moved["network_g"]


def test_a_run_goes_on_without_its_start(classes, text, tmp_path, tiny_features):
    data = write_captions(tmp_path / "data", KNOWN)
    cases = [(classes, "class", "digits"), (text, "text", data), (text, "none", data)]
    for start, cond, source in cases:
        copy, run = tmp_path / "start", tmp_path / f"run-{cond}"
        shutil.copytree(start / "best", copy)
        arguments = {"start": copy, "cond": cond, "data__source": source, **QUIET}
        main(tiny_run(run, tiny_features, **arguments))
        shutil.rmtree(copy)
        main(tiny_run(run, tiny_features, schedule__kimg=0.032, **arguments))
        assert (run / "checkpoints" / "kimg_0000000.032").is_dir()


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


@pytest.mark.parametrize("begin_at", ["best", "."])
def test_classes_find_their_rows_by_name(begin_at, classes, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    stored = load_model(classes / "best")[0].mapping.embed.weight
    data = write_classes(tmp_path / "data", ["3", "new", "7"])
    state = begun(tmp_path / "run", tiny_features, start=classes / begin_at, data__source=data)
    assert state.condition.names == ("3", "7", "new")
    raw = state.g.raw if begin_at == "best" else state.ema.network
    assert torch.equal(raw.mapping.embed.weight, torch.stack([stored[3], stored[7], stored.mean(dim=0)]))
    assert torch.equal(state.ema.network.mapping.embed.weight, raw.mapping.embed.weight)
    assert "1 of 3 classes (new)" in caplog.text


def test_names_of_classes_are_read_as_captions_of_the_start(text, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    theirs, condition, _ = load_model(text / "best")
    data = write_classes(tmp_path / "data", ["red_fox", "owl, bird"])
    state = begun(tmp_path / "run", tiny_features, start=text / "best", data__source=data)
    assert state.condition.names == ("owl, bird", "red_fox")
    mapping = state.ema.network.mapping
    read = mapping.condition_part(torch.tensor([0, 1]))
    wanted = theirs.mapping.text_scale * condition.encoder.encode_text(["owl", "red fox"])
    torch.testing.assert_close(read, wanted)
    assert 0.5 < mapping.embed.weight.square().mean() < 2, "learns at the rate of weights of unit size"
    weight = state.g.raw.get_submodule("synthesis.b8.torgb.affine.proj").weight
    assert bool(weight[:, 16:].any())
    assert "classes begin as its text encoder reads their names" in caplog.text


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
    xl = tiny_folder(tmp_path / "xl", "class", "sgxl-tiny-16")
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
        ({"start": "no-owner/no-model"}, "could not be fetched from the Hub"),
        (
            {"start": tmp_path / "half", "generator__z_dim": 12},
            "takes latents of 16 numbers and generator.z_dim",
        ),
        ({"start": classes, "generator__z_dim": 12}, "set it to 16"),
        ({"start": classes, "generator__stylegan_t__channel_base": 32}, "shares no weights"),
        ({"start": newest}, f"name the run, {classes}"),
        ({"start": classes, "generator": "stylegan3"}, "generator.family is stylegan3: leave"),
        ({"start": text / "best", **small}, "has a stylegan_t generator"),
        (
            {"start": xl, "generator": "stylegan3", "generator__img_resolution": 32, "generator__z_dim": 64},
            "grow it by a head",
        ),
    ]
    for settings, words in cases:
        assert words in refusal(**settings), settings


def test_a_damaged_start_is_refused_first(refusal, tmp_path, classes):
    shutil.copytree(classes, tmp_path / "cut")
    for checkpoint in (tmp_path / "cut" / "checkpoints").iterdir():
        (checkpoint / "network_g.safetensors").write_bytes(b"")
    for model in ("best", "last"):
        shutil.rmtree(tmp_path / "cut" / model)
    assert "holds neither checkpoints nor a model" in refusal(start=tmp_path / "cut")
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
